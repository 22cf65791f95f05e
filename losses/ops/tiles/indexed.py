"""What the pairs of a list of indices measure, and sums over them, from the matrix of all: no row is gathered for each.

A miner names up to N^3 triplets of N points, so gathering the D numbers of every point that it names takes D times as
much memory as the triplets themselves, and more than all N^2 distances. Here the distances are measured once, as a
block of :mod:`losses.ops.tiles.blocks`; a list picks its numbers out of them, and their derivatives are added up in a
matrix of the same shape, which the block takes back to the points. Lists are gone through in strips that stay in the
cache. Where they are so short that rows are fewer than distances, rows are gathered, and what they measure too has its
gradient by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.labelled import LabelledBatch, Rivals
from losses.core.precision import accumulation_dtype
from losses.core.reduction import Total, weighted
from losses.ops.distances import measured, measured_rowwise
from losses.ops.eager import is_eager
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.differentiable import TileSums, over_tiles
from losses.ops.tiles.rows import by_autograd, no_sum
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised

IndexPair = tuple[Tensor, Tensor]
"""Rows and columns ``(T,)`` of some entries of a matrix."""
Strip = tuple[IndexPair, ...]
"""Some items of a list: for each of K things that an item compares, where it stands. The first row is the anchor."""


class Listed(NamedTuple):
    """A list of items, each with a value made of K numbers of the matrix.

    Args:
        strips: the list, some items at a time.
        cost: from K tensors ``(T,)`` of what is measured to the values of the items ``(T,)``.
        counts_free: whether items that cost nothing count too.
    """

    strips: Iterable[Strip]
    cost: Callable[..., Tensor]
    counts_free: bool


class IndexSums(NamedTuple):
    """How to sum what a miner's indices say.

    Args:
        function: from tiles and a weight per anchor ``(N, 1)``, or none, to sums and denominators.
        outputs: how many sums there are.
        whole: the function needs the matrix in one piece.
    """

    function: Callable[[Tiles, Tensor | None], TileSums]
    outputs: int = 1
    whole: bool = False


def indexable(batch: LabelledBatch, weight: Tensor | None = None) -> bool:
    """Return whether indices are given, and nobody needs to see how what they say is summed."""
    if batch.indices is None or batch.anchors.device.type != "cpu" or (weight is not None and weight.requires_grad):
        return False
    return is_eager(batch.anchors, batch.others, weight)


def are_many(pairs: int, first: Tensor, second: Tensor) -> bool:
    """Return whether so many pairs have more numbers in their rows than there are distances."""
    return pairs * first.shape[1] > first.shape[0] * second.shape[0]


def over_indices(
    sums: IndexSums,
    definition: Callable[[LabelledBatch], Tensor],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None = None,
) -> Total:
    """Return the total of what indices say of a batch, differentiable.

    Args:
        sums: how to sum.
        definition: the same sums ``(K,)`` as a plain composition.
        batch: embeddings and indices.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
        weight: of every anchor ``(N,)``.
    """
    relative, greatest = normalised(weight)
    of_rows = None if relative is None else relative.unsqueeze(1)

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        return definition(batch._replace(anchors=first, others=first if second is None else second)) / greatest

    values, denominators = over_tiles(
        lambda tiles: sums.function(tiles, of_rows),
        of_points,
        batch.anchors,
        batch.others if batch.has_reference else None,
        measure,
        outputs=sums.outputs,
        blocks=[slice(0, len(batch.anchors))] if sums.whole else None,
    )
    if weight is None:
        denominators = denominators.round().long()
    else:
        values, denominators = values * greatest, (denominators * greatest).to(values.dtype)
    return Total(values, denominators) if sums.outputs > 1 else Total(values[0], denominators[0])


def tiled_lists(tiles: Tiles, weight: Tensor | None, *, lists: Sequence[Sequence[Listed]]) -> TileSums:
    """Return the sums over lists of items, and how many count: for every sum its lists.

    Args:
        tiles: a matrix in one piece.
        weight: of every anchor ``(N, 1)``.
        lists: of every sum.
    """
    (tile,) = tiles
    measure_itself(tile)
    kept = tile.scratch(2).copy_(tile.values) if len(lists) > 1 else None  # a gradient uses them up
    sums, counts = [], []
    for output, some in enumerate(lists):
        if output and kept is not None:
            tile.values.copy_(kept)
        cost, number = no_sum(tiles), no_sum(tiles)
        gradient = tile.scratch(1).zero_() if tiles.differentiable else None
        for listed in some:
            of_list, counted = sum_of_list(listed, tile.values, weight, gradient)
            cost += of_list
            number += counted
        if gradient is not None:
            take_back(tile, gradient, output)
        sums.append(cost)
        counts.append(number)
    return TileSums(sums, counts)


def sum_of_list(
    listed: Listed, values: Tensor, weight: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the sum over a list and how many of its items count, and add its derivative by the values ``(N, M)`` to a
    gradient of their shape."""
    width, flat = values.shape[1], values.view(-1)
    cost, number = (torch.zeros((), dtype=torch.float64) for _ in range(2))
    for strip in listed.strips:
        places = [torch.add(column, row, alpha=width) for row, column in strip]
        found = [flat.index_select(0, place) for place in places]
        of_items = None if weight is None else weight.view(-1).index_select(0, strip[0][0])
        items, slopes = by_autograd(listed.cost, found, of_items, wanted=gradient is not None)
        cost += weighted(items, of_items).sum(dtype=torch.float64)
        if listed.counts_free:
            number += len(items) if of_items is None else of_items.sum(dtype=torch.float64)
        elif of_items is None:
            number += torch.count_nonzero(items)
        else:
            number += of_items.masked_fill(items == 0, 0).sum(dtype=torch.float64)
        if gradient is not None:
            for place, slope in zip(places, slopes, strict=True):
                gradient.view(-1).scatter_add_(0, place, slope)
    return cost, number


def strips_of(*pairs: IndexPair) -> Iterator[Strip]:
    """Yield a list of items in strips that stay in the cache."""
    length = len(pairs[0][0])
    for start in range(0, length, sizes().strip):
        strip = slice(start, start + sizes().strip)
        yield tuple((row[strip], column[strip]) for row, column in pairs)


def triplet_strips(batch: LabelledBatch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what indices say as triplets (anchor, positive, negative), in strips that stay in the cache: of pairs every
    positive with every negative one of its anchor."""
    if batch.indices is not None and len(batch.indices) == 3:
        anchor, positive, negative = batch.indices
        for (anchor, positive), (_, negative) in strips_of((anchor, positive), (anchor, negative)):
            yield anchor, positive, negative
        return
    anchor, positive, negative_anchor, negative = batch.pairs()
    rivals = Rivals(negative_anchor, negative, len(batch.anchors))
    ends = rivals.counts(anchor).cumsum(0)
    start, done = 0, 0
    while start < len(anchor):
        # as many positives as a strip has room for their triplets, and one at least
        stop = max(start + 1, int(torch.searchsorted(ends, done + sizes().strip, right=True)))
        place, rival = rivals.beside(anchor[start:stop])
        yield anchor[start:stop].index_select(0, place), positive[start:stop].index_select(0, place), rival
        start, done = stop, int(ends[stop - 1])


def measure_itself(tile: Tile) -> None:
    """Write what points measure to themselves into a block, where a set meets itself: indices may ask for it."""
    if not tile.tiles.itself:
        return
    value: Tensor | float = 0.0
    if not tile.tiles.measure.endswith("euclidean"):  # rows of zeros have no direction, and the cosine 0 to all
        exists = (tile.tiles.first[tile.rows] != 0).any(1)
        value = exists if tile.tiles.measure == "similarity" else ~exists
    tile.itself().copy_(torch.as_tensor(value))


def take_back(tile: Tile, gradient: Tensor, output: int = 0) -> None:
    """Add the derivative of a sum by a block, in which :func:`measure_itself` was written, to the gradient of the
    points; both are overwritten."""
    if tile.tiles.itself:
        tile.at_itself(gradient, 0)
        tile.at_itself(tile.values, torch.inf)
    tile.accumulate_gradient(gradient, output)


def measured_at(first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
    """Return what each row of ``first`` that is named measures to the row of ``second`` named with it, ``(P,)``.

    Args:
        first: ``(N, D)``.
        second: ``(M, D)``; ``None`` is the first.
        row, column: of each pair ``(P,)``.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
    """
    others = first if second is None else second
    if is_eager(first, second) and first.device.type == "cpu":
        way = FromMatrix if are_many(len(row), first, others) else FromRows if measure.endswith("euclidean") else None
        if way is not None:
            values: Tensor = way.apply(first, second, row, column, measure)  # type: ignore[no-untyped-call]
            return values
    return plainly_measured_at(first, others, row, column, measure)


def plainly_measured_at(first: Tensor, second: Tensor, row: Tensor, column: Tensor, measure: str) -> Tensor:
    """Return the same as a plain composition."""
    # a compiler would have to be told which of them: it makes one program for lists of any length
    if is_compiling() or are_many(len(row), first, second):
        return measured(first, second, measure)[row, column]
    return measured_rowwise(first[row], second[column], measure)


class FromMatrix(torch.autograd.Function):
    """What many pairs measure: picked out of the matrix of all, which is made again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str
    ) -> Tensor:
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column)
        tile = whole_matrix(first, second, measure, (False, False))
        place = torch.add(column, row, alpha=tile.values.shape[1])
        return tile.values.view(-1).index_select(0, place).to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone will differentiate this gradient: give one that can be
            return plain_gradients(ctx, gradient)
        tile = whole_matrix(first, second, ctx.measure, ctx.needs_input_grad[:2])
        of_values = tile.scratch(1).zero_()
        place = torch.add(column, row, alpha=tile.values.shape[1])
        of_values.view(-1).scatter_add_(0, place, gradient.to(of_values.dtype))
        take_back(tile, of_values)
        parts = (None if part is None else part[0].to(first.dtype) for part in tile.tiles.gradients())
        return *parts, None, None, None


class FromRows(torch.autograd.Function):
    """How far apart the two points of a few pairs are: from the rows of both."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str
    ) -> Tensor:
        others = first if second is None else second
        differences = first.index_select(0, row) - others.index_select(0, column)
        lengths = torch.linalg.vector_norm(differences, dim=1, dtype=accumulation_dtype(first))
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column, differences, lengths)
        return (lengths if measure == "euclidean" else lengths.square()).to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column, differences, lengths = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone will differentiate this gradient: give one that can be
            return plain_gradients(ctx, gradient)
        slopes = 2 * gradient
        if ctx.measure == "euclidean":
            slopes = (gradient / lengths.masked_fill(lengths == 0, torch.inf)).to(first.dtype)
        moves = differences * slopes.unsqueeze(1)
        of_first = torch.zeros_like(first).index_add_(0, row, moves) if ctx.needs_input_grad[0] else None
        if second is None:
            return of_first.index_add_(0, column, moves, alpha=-1), None, None, None, None
        of_second = None
        if ctx.needs_input_grad[1]:
            of_second = torch.zeros_like(second).index_add_(0, column, moves, alpha=-1)
        return of_first, of_second, None, None, None


def whole_matrix(first: Tensor, second: Tensor | None, measure: str, differentiable: tuple[bool, bool]) -> Tile:
    """Return the matrix of all that two sets measure, in one piece."""
    exact = len(first) * len(first if second is None else second) <= sizes().exact
    (tile,) = Tiles(
        *(first, second, measure),
        dtype=accumulation_dtype(first) if exact else first.dtype,
        blocks=[slice(0, len(first))],
        differentiable=differentiable,
    )
    measure_itself(tile)
    return tile


def plain_gradients(ctx: Any, gradient: Tensor) -> Any:
    """Return gradients of what pairs measure that can be differentiated once more."""
    first, second, row, column = ctx.saved_tensors[:4]
    values = plainly_measured_at(first, first if second is None else second, row, column, ctx.measure)
    points = [point for point in (first, second) if point is not None and point.requires_grad]
    found = iter(torch.autograd.grad(values, points, gradient, create_graph=True))
    wanted = [point is not None and point.requires_grad for point in (first, second)]
    return *(next(found) if asked else None for asked in wanted), None, None, None
