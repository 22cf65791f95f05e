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
from losses.core.torch_private import is_batched_gradient
from losses.ops.distances import measured, measured_rowwise
from losses.ops.eager import is_eager
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.differentiable import Definition, gradients_of_points
from losses.ops.tiles.matrix import Gradients, matrix_of, measure_itself, precision_of, small_matrix, take_back
from losses.ops.tiles.rows import Costs, by_autograd
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


class RowSums(NamedTuple):
    """Sum over some anchors, how many count, and the derivative by what they measure ``(B, M)``."""

    sum: Tensor
    number: Tensor
    gradient: Tensor | None


class IndexRows(NamedTuple):
    """What a miner's indices say as rows of the matrix.

    Args:
        function: from what some rows measure ``(B, M)``, which rows they are, a weight for each ``(B, 1)``, or none,
            and whether the derivative is wanted.
    """

    function: Callable[[Tensor, slice, Tensor | None, bool], RowSums]


def indexable(batch: LabelledBatch, weight: Tensor | None = None) -> bool:
    """Return whether indices are given, and nobody needs to see how what they say is summed."""
    if batch.indices is None or batch.anchors.device.type != "cpu" or (weight is not None and weight.requires_grad):
        return False
    return is_eager(batch.anchors, batch.others, weight)


def are_many(pairs: int, first: Tensor, second: Tensor) -> bool:
    """Return whether so many pairs have more numbers in their rows than there are distances."""
    return pairs * first.shape[1] > first.shape[0] * second.shape[0]


def over_indices(
    sums: IndexLists | IndexRows,
    definition: Callable[[LabelledBatch], Total],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None = None,
) -> Total:
    """Return the total of what indices say of a batch, differentiable.

    Args:
        sums: how to sum.
        definition: the same as a plain composition.
        batch: embeddings and indices.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
        weight: of every anchor ``(N,)``.
    """
    relative, greatest = normalised(weight)

    def sums_of(batch: LabelledBatch) -> Tensor:
        return definition(batch).sum.reshape(-1) / greatest

    values, denominators = index_totals(sums, sums_of, batch, measure, relative)
    if weight is None:
        denominators = denominators.round().long()
    else:
        values, denominators = values * greatest, (denominators * greatest).to(values.dtype)
    return Total(values, denominators) if len(values) > 1 else Total(values[0], denominators[0])


def mean_over_indices(
    sums: IndexLists | IndexRows, definition: Callable[[LabelledBatch], Total], batch: LabelledBatch, measure: str
) -> Tensor:
    """Return the mean of the same without weights, in a few operations less."""
    return index_totals(sums, lambda batch: definition(batch).mean(), batch, measure, None, mean=True)[0]


def index_totals(
    sums: IndexLists | IndexRows,
    definition: Definition,
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None,
    *,
    mean: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the sums ``(K,)`` of what indices say of a batch, and their denominators ``(K,)``; or the sum of their
    means, and 1."""

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        result: Tensor = definition(batch._replace(anchors=first, others=first if second is None else second))
        return result

    wanted = torch.is_grad_enabled()  # inside of a Function it never is
    points = batch.anchors, batch.others if batch.has_reference else None
    outputs: tuple[Tensor, Tensor] = Indexed.apply(sums, of_points, measure, weight, mean, wanted, *points)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return outputs


class Indexed(torch.autograd.Function):
    """Sums over what indices say, or the sum of their means, as one operation of autograd, with the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        sums: IndexLists | IndexRows,
        definition: Definition,
        measure: str,
        weight: Tensor | None,
        mean: bool,
        wanted: bool,
        first: Tensor,
        second: Tensor | None,
    ) -> Any:
        follows = tuple(wanted and needed for needed in ctx.needs_input_grad[-2:])
        if isinstance(sums, IndexLists):
            results, gradients = over_lists(sums, first, second, measure, weight, mean, follows)
        else:
            results, gradients = over_rows(sums, first, second, measure, weight, mean, follows)
        ctx.definition, ctx.itself = definition, second is None
        ctx.save_for_backward(first, second, *(None if part is None else part.to(first.dtype) for part in gradients))
        answers = torch.tensor(results[0] if mean else results, dtype=accumulation_dtype(first))
        values, counts = answers.unbind(-1)
        ctx.mark_non_differentiable(counts)
        return values.to(first.dtype), counts

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        return None, None, None, None, None, None, *gradients_of_points(ctx, gradient)


Results = tuple[Sequence[tuple[float, float]], Gradients]
"""Sums with what they are divided by, and their gradients by both sets of points."""


def over_lists(
    sums: IndexLists,
    first: Tensor,
    second: Tensor | None,
    measure: str,
    weight: Tensor | None,
    mean: bool,
    follows: tuple[bool, ...],
) -> Results:
    """Return the sums over lists, or the sum of their means, and the gradients."""
    matrix = matrix_of(first, second, measure, follows, outputs=1 if mean else len(sums.lists))
    height, width = matrix.values.shape
    of_values = matrix.values.new_zeros(len(sums.lists), height * width) if any(follows) else None
    results = []
    for output, lists in enumerate(sums.lists):
        gradient = None if of_values is None else of_values[output]
        results.append(sum_of_lists(lists, matrix.values, weight, gradient))
    if mean:
        results, of_values = [added_means(results, of_values)], None if of_values is None else of_values[:1]
    return results, (None, None) if of_values is None else matrix.gradients(of_values.view(-1, height, width))


def over_rows(
    sums: IndexRows,
    first: Tensor,
    second: Tensor | None,
    measure: str,
    weight: Tensor | None,
    mean: bool,
    follows: tuple[bool, ...],
) -> Results:
    """Return the sum over rows, or its mean, and the gradients: of a small matrix at once, else block by block."""
    of_rows = None if weight is None else weight.unsqueeze(1)
    small = small_matrix(first, second, measure, follows)
    if small is not None:
        cost, number, gradient = sums.function(small.values, slice(0, len(first)), of_rows, any(follows))
        gradients = (None, None) if gradient is None else small.gradients(gradient.unsqueeze(0))
        total, count = float(cost), float(number)
    else:
        tiles = Tiles(
            *(first, second, measure), dtype=precision_of(first, second), differentiable=(follows[0], follows[1])
        )
        total, count = 0.0, 0.0
        for tile in tiles:
            measure_itself(tile)
            weights = None if of_rows is None else of_rows[tile.rows]
            cost, number, gradient = sums.function(tile.values, tile.rows, weights, any(follows))
            total += float(cost)
            count += float(number)
            if gradient is not None:
                take_back(tile, gradient)
        gradients = tiles.gradients()
    if not mean:
        return [(total, count)], gradients
    for part in gradients:
        if part is not None:
            added_means([(total, count)], part)
    return [added_means([(total, count)], None)], gradients


def added_means(sums: Sequence[tuple[float, float]], derivatives: Tensor | None) -> tuple[float, float]:
    """Return the sum of the means of sums over counts, which count once, and make its derivative of theirs ``(K, ...)``
    in place of the first; a mean over nothing is 0."""
    scales = [1 / count if count else 0.0 for _, count in sums]
    if derivatives is not None:
        derivatives[0].mul_(scales[0])
        for part, scale in zip(derivatives[1:], scales[1:], strict=True):
            derivatives[0].add_(part, alpha=scale)
    return sum(cost / count for cost, count in sums if count), 1.0


def sum_of_lists(
    lists: Sequence[Listed], values: Tensor, weight: Tensor | None, gradient: Tensor | None
) -> tuple[float, float]:
    """Return the sum over some lists and how many of their items count."""
    sums = [sum_of_list(listed, values, weight, gradient) for listed in lists]
    return sum(cost for cost, _ in sums), sum(count for _, count in sums)


def sum_of_list(listed: Listed, values: Tensor, weight: Tensor | None, gradient: Tensor | None) -> tuple[float, float]:
    """Return the sum over a list and how many of its items count, and add its derivative by the values ``(N, M)`` to a
    gradient ``(N M,)``."""
    width, flat = values.shape[1], values.view(-1)
    cost, number = 0.0, 0.0
    for strip in listed.strips:
        places = [torch.add(column, row, alpha=width) for row, column in strip]
        of_items = None if weight is None else weight.index_select(0, strip[0][0])
        items, slopes = listed.cost(*(flat.index_select(0, place) for place in places))
        cost += float(weighted(items, of_items).sum(dtype=torch.float64))
        if listed.counts_free:
            number += len(items) if of_items is None else float(of_items.sum(dtype=torch.float64))
        elif of_items is None:
            number += float(torch.count_nonzero(items))
        else:
            number += float(of_items.masked_fill(items == 0, 0).sum(dtype=torch.float64))
        if gradient is not None:
            for place, slope in zip(places, slopes, strict=True):
                gradient.scatter_add_(0, place, slope if of_items is None else slope * of_items)
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
    def forward(ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column)
        matrix = matrix_of(first, second, measure, (False, False))
        place = torch.add(column, row, alpha=matrix.values.shape[1])
        return matrix.values.view(-1).index_select(0, place).to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched_gradient(gradient):
            return plain_gradients(ctx, gradient)
        matrix = matrix_of(first, second, ctx.measure, ctx.needs_input_grad[:2])
        of_values = torch.zeros_like(matrix.values).unsqueeze(0)
        place = torch.add(column, row, alpha=matrix.values.shape[1])
        of_values.view(-1).scatter_add_(0, place, gradient.to(of_values.dtype))
        parts = matrix.gradients(of_values)
        return *(None if part is None else part[0].to(first.dtype) for part in parts), None, None, None


class FromRows(torch.autograd.Function):
    """How far apart the two points of a few pairs are: from the rows of both."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
        others = first if second is None else second
        differences = first.index_select(0, row) - others.index_select(0, column)
        lengths = torch.linalg.vector_norm(differences, dim=1, dtype=accumulation_dtype(first))
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column, differences, lengths)
        values: Tensor = lengths if measure == "euclidean" else lengths.square()
        return values.to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column, differences, lengths = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched_gradient(gradient):
            return plain_gradients(ctx, gradient)
        slopes = 2 * gradient
        if ctx.measure == "euclidean":
            slopes = (gradient / lengths.masked_fill(lengths == 0, torch.inf)).to(first.dtype)
        moves = differences * slopes.unsqueeze(1)
        of_first = of_second = None
        if ctx.needs_input_grad[0]:
            of_first = torch.zeros_like(first).index_add_(0, row, moves)
            if second is None:
                of_first.index_add_(0, column, moves, alpha=-1)
        if ctx.needs_input_grad[1]:
            of_second = torch.zeros_like(second).index_add_(0, column, moves, alpha=-1)
        return of_first, of_second, None, None, None


def plain_gradients(ctx: Any, gradient: Tensor) -> Any:
    """Return gradients of what pairs measure that can be differentiated once more, or of several at once."""
    first, second, row, column = ctx.saved_tensors[:4]
    with torch.enable_grad():
        values = plainly_measured_at(first, first if second is None else second, row, column, ctx.measure)
        points = [point for point in (first, second) if point is not None and point.requires_grad]
        found = iter(torch.autograd.grad(values, points, gradient, create_graph=True))
    wanted = [point is not None and point.requires_grad for point in (first, second)]
    return *(next(found) if asked else None for asked in wanted), None, None, None
