"""What matching rows measure and cost, in few operations: the readable definitions are in :mod:`losses.ops.distances`
and beside the losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.precision import accumulation_dtype, matched
from losses.core.reduction import Total
from losses.core.torch_private import graph_is_kept, may_read
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.directions import FEW, Directions, directions_of, slopes_of
from losses.ops.distances import measured_rowwise
from losses.ops.eager import is_eager
from losses.ops.numerics.constants import constant
from losses.ops.rowwise_arrays import ArrayCost, mean_of_few_rows
from losses.ops.tiles.rows import by_autograd
from losses.ops.units import Units, slopes_of_units, units_of


class RowCosts(NamedTuple):
    """What given rows cost: pairs or triplets of embeddings.

    Args:
        sides: which two of the sets of points are compared, for each of K distances.
        measure: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"``, a distance.
        cost: from distances ``(K, N)`` to the values of the items and their derivatives ``(K, N)``.
        counts_free: whether items that cost nothing count too.
        array_cost: as the cost, of few rows in NumPy; or none.
    """

    sides: Sequence[tuple[int, int]]
    measure: str
    cost: Callable[[Tensor], tuple[Tensor, Tensor]]
    counts_free: bool
    array_cost: ArrayCost | None = None

    def mean_of_few(
        self, definition: Callable[..., Total], points: Sequence[Tensor], weight: Tensor | None
    ) -> Tensor | None:
        """Return the mean in NumPy, if that is faster; see :func:`mean_of_rows`."""
        if self.array_cost is None:
            return None
        given = (self.sides, self.measure, self.array_cost, definition, points, weight)
        return mean_of_few_rows(*given, counts_free=self.counts_free)


def listed_costs(formula: Callable[..., Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a formula of the K distances of an item that tells its derivatives too, found by autograd."""

    def cost(distances: Tensor) -> tuple[Tensor, Tensor]:
        items, slopes = by_autograd(formula, distances.unbind(), None)
        return items, torch.stack(list(slopes))

    return cost


def measured_side_by_side(first: Tensor, second: Tensor, measure: str) -> Tensor:
    """Return the similarity or distance of each row of ``first`` ``(N, D)`` to the same row of ``second``, ``(N,)``."""
    if measure.endswith("euclidean") and on_cpu(first) and is_eager(first, second):
        values: Tensor = SideBySide.apply(first, second, measure)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return values
    return measured_rowwise(first, second, measure)


def can_be_summed(rows: RowCosts, points: Sequence[Tensor], weight: Tensor | None = None) -> bool:
    """Return whether rows can be summed in one operation of autograd, and anybody asks for its gradient."""
    if not torch.is_grad_enabled() or not any(part.requires_grad for part in points):
        return False
    if rows.measure == "cosine" and not on_cpu(points[0]) and points[0].dtype is not torch.float32:
        return False  # float64 does not hold the squares of all its numbers
    return is_eager(*points, weight) and not (weight is not None and weight.requires_grad)


def mean_of_rows(rows: RowCosts, definition: Callable[..., Total], points: Sequence[Tensor]) -> Tensor:
    """Return the mean of what rows cost, differentiable.

    Args:
        rows: what they cost.
        definition: the total as a plain composition of the points.
        points: the sets that are compared, each ``(N, D)``.
    """
    mean: Tensor = SumOfRows.apply(rows, lambda *points: definition(*points).mean(), None, True, *points)[0]  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return mean


def total_of_rows(
    rows: RowCosts, definition: Callable[..., Total], points: Sequence[Tensor], weight: Tensor | None
) -> Total:
    """Return the total likewise, with a weight of every item ``(N,)`` or none."""
    return Total(*SumOfRows.apply(rows, lambda *points: definition(*points).sum, weight, False, *points))  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped


class SumOfRows(torch.autograd.Function):
    """The sum of what rows cost, or its mean, and the number of items that count, with the gradient by hand."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: RowCosts,
        definition: Callable[..., Tensor],
        weight: Tensor | None,
        mean: bool,
        *points: Tensor,
    ) -> tuple[Tensor, Tensor | int]:
        measured: list[Tensor | None]  # which the derivatives are made of
        if rows.measure == "cosine" and not on_cpu(points[0]):
            units = units_of(points, rows.sides)
            items, factors = rows.cost(matched(units.distances, points[0]))
            measured = [units.distances, units.differences, *units.lengths, *units.vectors]
        elif rows.measure == "cosine":
            directions = directions_of(points, rows.sides)
            items, factors = rows.cost(directions.distances)
            measured = [directions.distances, directions.close, *directions.lengths]
        else:
            differences = differences_of(points, rows.sides)
            lengths, divisors = lengths_of(differences)
            is_root = rows.measure == "euclidean"
            items, slopes = rows.cost(matched(lengths if is_root else lengths.square(), points[0]))
            factors = slopes / divisors if is_root else 2 * slopes
            measured = [differences]
        number: Tensor | int = items.numel()
        if weight is not None:
            items, factors = items * weight, factors.mul_(weight)
            number = (weight if rows.counts_free else weight.masked_fill(items == 0, 0)).sum()
        elif not rows.counts_free:
            number = items.count_nonzero()
        value, ctx.divisor = items.sum(), 1
        if mean:
            ctx.divisor = constant(max(1, number), items) if isinstance(number, int) else number.clamp_(min=1)
            value = value / ctx.divisor
        if isinstance(number, Tensor):
            ctx.mark_non_differentiable(number)
        ctx.rows, ctx.definition = rows, definition
        ctx.save_for_backward(factors, *points, *measured)
        return matched(value, points[0]), number

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        factors, *saved = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        points, measured = saved[: len(wanted)], saved[len(wanted) :]
        found: list[Tensor | None]
        if is_asked_again(gradient):
            return None, None, None, None, *plain_gradients(ctx.definition, gradient, *points)
        factors = factors * (gradient / ctx.divisor)
        if ctx.rows.measure == "cosine" and not on_cpu(points[0]):
            distances, differences, *rest = measured
            units = Units(distances, differences, rest[: len(points)], rest[len(points) :])
            found = slopes_of_units(units, ctx.rows.sides, factors, wanted)
            return None, None, None, None, *(None if part is None else matched(part, points[0]) for part in found)
        if ctx.rows.measure == "cosine":
            directions = Directions(measured[0], measured[1], measured[2:])
            found = slopes_of(directions, ctx.rows.sides, points, matched(factors, points[0]), wanted)
            return None, None, None, None, *found
        (differences,) = measured
        factors = matched(factors, differences).unsqueeze(-1)
        moves = differences * factors if graph_is_kept() else differences.mul_(factors)
        found = [None] * len(points)
        for (one, other), move in zip(ctx.rows.sides, moves.unbind(), strict=True):
            if wanted[other]:
                found[other] = move.neg() if (former := found[other]) is None else former.sub_(move)
            if wanted[one]:
                found[one] = move if (former := found[one]) is None else former.add_(move)
        return None, None, None, None, *found


def differences_of(points: Sequence[Tensor], sides: Sequence[tuple[int, int]]) -> Tensor:
    """Return the differences of the sets that are compared ``(K, N, D)``."""
    if len(sides) == 1:
        ((one, other),) = sides
        return (points[one] - points[other]).unsqueeze(0)
    differences = points[0].new_empty(len(sides), *points[0].shape)
    for part, (one, other) in zip(differences.unbind(), sides, strict=True):
        torch.sub(points[one], points[other], out=part)
    return differences


def lengths_of(differences: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lengths of rows, and the same to divide by: infinity in the place of 0, which has no direction.

    They are in the precision of the accumulation, but where sums of a few squares do not need it.
    """
    range_, can_do = torch.finfo(differences.dtype), differences.shape[-1] <= FEW and differences.numel() > 0
    if can_do and may_read(differences):
        lengths: Tensor = torch.linalg.vector_norm(differences, dim=-1)
        least, most = lengths.aminmax()
        if float(least) > range_.tiny**0.25 and float(most) < range_.max**0.25:
            return lengths, lengths
    lengths = torch.linalg.vector_norm(differences, dim=-1, dtype=accumulation_dtype(differences))
    return lengths, lengths.masked_fill(lengths == 0, torch.inf)


class SideBySide(torch.autograd.Function):
    """Euclidean distances of matching rows, or their squares, with the gradient by hand."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, measure: str) -> Tensor:
        differences = first - second
        lengths, divisors = lengths_of(differences)
        ctx.measure = measure
        ctx.save_for_backward(first, second, differences, divisors)
        return matched(lengths if measure == "euclidean" else lengths.square(), first)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, differences, divisors = ctx.saved_tensors
        if is_asked_again(gradient):
            definition = partial(measured_rowwise, measure=ctx.measure)
            return *plain_gradients(definition, gradient, first, second), None
        slopes = matched(gradient / divisors, first) if ctx.measure == "euclidean" else 2 * gradient
        moves = differences * slopes.unsqueeze(-1)
        return moves if ctx.needs_input_grad[0] else None, -moves if ctx.needs_input_grad[1] else None, None
