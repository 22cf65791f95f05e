"""What the pairs of a list of indices measure, and sums over them, from the matrix of all: no row is gathered for each.

A miner names up to N^3 triplets of N points, so gathering the D numbers of every point that it names takes D times as
much memory as the triplets themselves, and more than all N^2 distances. Here the distances are measured once, as a
block of :mod:`losses.ops.tiles.blocks`; a list picks its numbers out of them, and their derivatives are added up in a
matrix of the same shape, which the block takes back to the points. Lists are gone through in strips that stay in the
cache. Where they are so short that rows are fewer than distances, rows are gathered, and what they measure too has its
gradient by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.labelled import LabelledBatch
from losses.core.precision import accumulation_dtype
from losses.core.reduction import Total
from losses.ops.dense.matrix import is_small
from losses.ops.eager import is_eager
from losses.ops.indexed.lists import IndexLists, Number, Sum, read, sum_of_lists
from losses.ops.indexed.matrix import Gradients, matrix_of, measure_itself, precision_of, small_matrix, take_back
from losses.ops.indexed.rows import IndexRows
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.differentiable import Definition, gradients_of_points
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised


def indexable(batch: LabelledBatch, measure: str, weight: Tensor | None = None) -> bool:
    """Return whether indices are given, and nobody needs to see how what they say is summed; where no CPU computes, of
    as many pairs as are measured in one piece."""
    if batch.indices is None or (weight is not None and weight.requires_grad):
        return False
    if not on_cpu(batch.anchors) and not is_small(batch.anchors, batch.others, measure):
        return False
    return is_eager(batch.anchors, batch.others, weight)


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
        values, counts = stacked(results, accumulation_dtype(first), first.device)
        if mean:
            values, counts = values[0], counts[0]
        ctx.mark_non_differentiable(counts)
        return values.to(first.dtype, copy=True), counts  # of views no caller could say loss /= 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        return None, None, None, None, None, None, *gradients_of_points(ctx, gradient)


Results = tuple[Sequence[Sum], Gradients]
"""Sums with what they are divided by, and their gradients by both sets of points."""


def stacked(results: Sequence[Sum], dtype: torch.dtype, device: torch.device) -> Sequence[Tensor]:
    """Return values and counts ``(K,)`` of some sums."""
    if not any(isinstance(number, Tensor) for both in results for number in both):
        return torch.tensor(results, dtype=dtype, device=device).unbind(-1)
    columns = [[unread(number, dtype, device) for number in column] for column in zip(*results, strict=True)]
    return [torch.stack(column) if len(column) > 1 else column[0].unsqueeze(0) for column in columns]


def unread(number: Number, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a number that nobody may have read as a tensor ``()``."""
    return number.to(dtype) if isinstance(number, Tensor) else torch.full((), number, dtype=dtype, device=device)


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
    results: list[Sum] = []
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
        total, count, gradient = over_strips(sums, small.values, of_rows, any(follows))
        gradients = (None, None) if gradient is None else small.gradients(gradient.unsqueeze(0))
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


def over_strips(
    sums: IndexRows, values: Tensor, weight: Tensor | None, wanted: bool
) -> tuple[Number, Number, Tensor | None]:
    """Return the sum over the rows of a matrix, how many count, and the derivative ``(N, M)``: on a CPU some rows at a
    time, so that little is alive at once beside the matrix."""
    step = max(1, sizes().block // values.shape[1])
    if step >= len(values) or not on_cpu(values):
        cost, number, gradient = sums.function(values, slice(0, len(values)), weight, wanted)
        return read(cost), read(number), gradient
    total, count, gradient = 0.0, 0.0, torch.empty_like(values) if wanted else None
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        cost, number, part = sums.function(values[rows], rows, None if weight is None else weight[rows], wanted)
        total, count = total + float(cost), count + float(number)
        if gradient is not None and part is not None:
            gradient[rows] = part
    return total, count, gradient


def added_means(sums: Sequence[Sum], derivatives: Tensor | None) -> Sum:
    """Return the sum of the means of sums over counts, which count once, and make its derivative of theirs ``(K, ...)``
    in place of the first; a mean over nothing is 0, as is a sum."""
    divisors = [count.clamp(min=1) if isinstance(count, Tensor) else max(1.0, count) for _, count in sums]
    if derivatives is not None:
        first, *others = derivatives.unbind()
        first.div_(divisors[0])
        for part, divisor in zip(others, divisors[1:], strict=True):
            first.add_(part.div_(divisor)) if isinstance(divisor, Tensor) else first.add_(part, alpha=1 / divisor)
    means = [cost / divisor for (cost, _), divisor in zip(sums, divisors, strict=True)]
    return sum(means[1:], means[0]), 1.0
