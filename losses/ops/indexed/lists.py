"""What a miner's indices say as lists of items, each made of a few numbers of the matrix of all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.labelled import LabelledBatch, Rivals
from losses.core.reduction import weighted
from losses.ops.tiles.rows import Costs, by_autograd
from losses.ops.tiles.sizes import sizes

IndexPair = tuple[Tensor, Tensor]
"""Rows and columns ``(T,)`` of some entries of a matrix."""


Strip = tuple[IndexPair, ...]
"""Some items of a list: for each of K things that an item compares, where it stands. The first row is the anchor."""


Number = Tensor | float
"""A number, or a tensor ``()`` where nobody reads it."""

Sum = tuple[Number, Number]
"""A sum, and how many of its items count."""


class Listed(NamedTuple):
    """A list of items, each with a value made of K numbers of the matrix.

    Args:
        strips: the list, some items at a time.
        cost: from K tensors ``(T,)`` of what is measured to the values of the items and their derivatives; may
            overwrite them.
        counts_free: whether items that cost nothing count too.
    """

    strips: Iterable[Strip]
    cost: Callable[..., Costs]
    counts_free: bool


class IndexLists(NamedTuple):
    """What a miner's indices say as lists of items: for every sum its lists."""

    lists: Sequence[Sequence[Listed]]


def are_many(pairs: int, first: Tensor, second: Tensor) -> bool:
    """Return whether so many pairs have more numbers in their rows than there are distances."""
    return pairs * first.shape[1] > first.shape[0] * second.shape[0]


def strips_of(*pairs: IndexPair) -> Iterator[Strip]:
    """Yield a list of items in strips that stay in the cache; all at once where no CPU computes."""
    length = pairs[0][0].numel()
    step = sizes().strip if on_cpu(pairs[0][0]) else max(1, length)
    for start in range(0, length, step):
        strip = slice(start, start + step)
        yield tuple((row[strip], column[strip]) for row, column in pairs)


def triplet_strips(batch: LabelledBatch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what indices say as triplets (anchor, positive, negative), in strips that stay in the cache: of pairs every
    positive with every negative one of its anchor; all at once where no CPU computes."""
    if not on_cpu(batch.anchors):
        yield batch.triplets()
        return
    anchor, positive, negative_anchor, negative = batch.pairs()
    if batch.indices is not None and len(batch.indices) == 3:
        for strip in strips_of((anchor, positive), (anchor, negative)):
            yield *strip[0], strip[1][1]
        return
    rivals = Rivals(negative_anchor, negative, len(batch.anchors))
    ends = rivals.counts(anchor).cumsum(0)
    start, done = 0, 0
    while start < len(anchor):
        # as many positives as a strip has room for their triplets, and one at least
        stop = max(start + 1, int(torch.searchsorted(ends, done + sizes().strip, right=True)))
        place, rival = rivals.beside(anchor[start:stop])
        yield anchor[start:stop].index_select(0, place), positive[start:stop].index_select(0, place), rival
        start, done = stop, int(ends[stop - 1])


def with_slopes(formula: Callable[..., Tensor]) -> Callable[..., Costs]:
    """Return a formula of items that tells their derivatives too, found by autograd."""
    return lambda *values: by_autograd(formula, values, None)


def sum_of_lists(lists: Sequence[Listed], values: Tensor, weight: Tensor | None, gradient: Tensor | None) -> Sum:
    """Return the sum over some lists and how many of their items count."""
    return added([sum_of_list(listed, values, weight, gradient) for listed in lists])


def sum_of_list(listed: Listed, values: Tensor, weight: Tensor | None, gradient: Tensor | None) -> Sum:
    """Return the sum over a list and how many of its items count, and add its derivative by the values ``(N, M)`` to a
    gradient ``(N M,)``."""
    width, flat = values.shape[1], values.view(-1)
    sums: list[Sum] = []
    for strip in listed.strips:
        places = [torch.add(column, row, alpha=width) for row, column in strip]
        of_items = None if weight is None else weight.index_select(0, strip[0][0])
        items, slopes = listed.cost(*(flat.index_select(0, place) for place in places))
        number: Number = items.numel()
        if not listed.counts_free or of_items is not None:
            number = read(count(items, of_items, counts_free=listed.counts_free))
        sums.append((read(weighted(items, of_items).sum(dtype=torch.float64)), number))
        if gradient is not None:
            for place, slope in zip(places, slopes, strict=True):
                gradient.scatter_add_(0, place, slope if of_items is None else slope * of_items)
    return added(sums)


def count(items: Tensor, weight: Tensor | None, *, counts_free: bool) -> Tensor:
    """Return how many items count ``()``, each as much as it weighs."""
    if weight is None:
        return torch.count_nonzero(items)
    return (weight if counts_free else weight.masked_fill(items == 0, 0)).sum(dtype=torch.float64)


def added(sums: Sequence[Sum]) -> Sum:
    """Return the sum of some, or of none."""
    if not sums:
        return 0.0, 0.0
    first, *others = sums
    for cost, number in others:
        first = first[0] + cost, first[1] + number
    return first


def read(number: Tensor) -> Number:
    """Return a number, or the tensor where to read it means to wait."""
    return number.item() if on_cpu(number) else number
