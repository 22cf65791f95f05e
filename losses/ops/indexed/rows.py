"""Sums over anchors of which a miner's indices say whom they are compared with, in blocks of rows of the matrix of all.

Indices may name few of a row's columns or most of them. Few are gathered side by side ``(N, P)``, as most miners
choose few positives; of many the row is taken whole, and what is not meant is masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.ops.indexed.lists import strips_of
from losses.ops.tiles.rows import Costs, by_autograd, exact_sum
from losses.ops.tiles.sizes import sizes

SPARSE = 4  # a row is gathered where it names fewer columns than one in so many
SORTED = 16  # pairs are sorted, and not counted in a matrix, where they are fewer than one in so many


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


class Named(NamedTuple):
    """Whom indices name beside every row ``(N, P)``: in which column, and how often; 0 times where nobody is meant.
    Without columns they are all, in their order ``(N, M)``."""

    column: Tensor | None
    times: Tensor


class NamedRows(NamedTuple):
    """Some anchors, with what they measure to the positives ``(B, P)`` and negatives ``(B, Q)`` that indices name, and
    how often each is named."""

    positives: Tensor
    negatives: Tensor
    times_positive: Tensor
    times_negative: Tensor


def named(row: Tensor, column: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Named:
    """Return whom pairs of indices ``(T,)`` name beside every row of a matrix of this shape."""
    height, width = shape
    counts = None
    small = height * width <= sizes().strip or not on_cpu(row)  # every operation costs as much as all numbers
    if not small and len(row) * SORTED < height * width:
        once, times = torch.unique(torch.add(column, row, alpha=width), return_counts=True)
    else:
        counts = torch.zeros(height * width, dtype=dtype, device=row.device)
        one = counts.new_ones(())
        for ((rows, columns),) in strips_of((row, column)):
            counts.scatter_add_(0, torch.add(columns, rows, alpha=width), one.expand(len(rows)))
        if small or len(row) * SPARSE >= height * width:
            return Named(None, counts.view(shape))
        once = counts.nonzero().squeeze(1)
        times = counts.index_select(0, once)
    rows = once // width
    of_row = torch.bincount(rows, minlength=height)
    most = int(of_row.amax()) if height else 0
    if most * SPARSE > width:
        if counts is None:
            counts = torch.zeros(height * width, dtype=dtype, device=row.device)
            counts.index_copy_(0, once, times.to(dtype))
        return Named(None, counts.view(shape))
    # the how manieth of its row
    beside = torch.arange(len(once), device=once.device) - (of_row.cumsum(0) - of_row).index_select(0, rows)
    side_by_side = beside + rows * max(1, most)
    columns = once.new_zeros(height * max(1, most)).index_copy_(0, side_by_side, once - rows * width)
    often = torch.zeros(height * max(1, most), dtype=dtype, device=row.device)
    often.index_copy_(0, side_by_side, times.to(dtype))
    return Named(columns.view(height, -1), often.view(height, -1))


def sum_of_named_rows(
    values: Tensor,
    rows: slice,
    weight: Tensor | None,
    wanted: bool,
    *,
    positive: Named,
    negative: Named,
    absent: tuple[float, float],
    cost: Callable[[NamedRows], Costs],
    count: Callable[[NamedRows], Tensor],
) -> RowSums:
    """Return the sum over some anchors, how many count, and the derivative.

    Args:
        values: what the rows measure to all ``(B, M)``.
        rows: which of the matrix they are.
        weight: of every anchor ``(B, 1)``.
        wanted: whether the derivative is.
        positive, negative: whom the indices name.
        absent: what positives and negatives measure that are not meant.
        cost: of every anchor ``(B, 1)``, and its derivatives by what it measures.
        count: how often an anchor counts ``(B, 1)``.
    """
    columns = [None if side.column is None else side.column[rows] for side in (positive, negative)]
    times = positive.times[rows], negative.times[rows]
    nobody = [often == 0 for often in times]
    found = [values if column is None else values.gather(1, column) for column in columns]
    positives, negatives = (side.masked_fill(gap, fill) for side, gap, fill in zip(found, nobody, absent, strict=True))
    block = NamedRows(positives, negatives, *times)
    items, slopes = cost(block)
    total, number = exact_sum(items, weight), exact_sum(count(block), weight)
    if not wanted:
        return RowSums(total, number, None)
    slopes = [slope.masked_fill(gap, 0) for slope, gap in zip(slopes, nobody, strict=True)]
    if weight is not None:
        slopes = [slope.masked_fill_(weight == 0, 0).mul_(weight) for slope in slopes]
    (first, second), (of_first, of_second) = columns, slopes
    if second is not None:
        of_second = torch.zeros_like(values).scatter_add_(1, second, of_second)
    gradient = of_second.add_(of_first) if first is None else of_second.scatter_add_(1, first, of_first)
    return RowSums(total, number, gradient)


def by_formula(formula: Callable[[NamedRows], Tensor]) -> Callable[[NamedRows], Costs]:
    """Return a formula of anchors ``(B, 1)`` that tells its derivatives too, found by autograd."""

    def cost(rows: NamedRows) -> Costs:
        return by_autograd(
            lambda positives, negatives: formula(rows._replace(positives=positives, negatives=negatives)),
            rows[:2],
            None,
        )

    return cost
