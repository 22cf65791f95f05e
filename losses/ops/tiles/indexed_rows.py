"""Sums over anchors of which a miner's indices say whom they are compared with, in blocks of rows of the matrix of all.

Indices may name few of a row's columns or most of them. Few are gathered side by side ``(N, P)``, as most miners
choose few positives; of many the row is taken whole, and what is not meant is masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.reduction import weighted
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.matrix import measure_itself, take_back
from losses.ops.tiles.rows import Costs, by_autograd, exact_sum, no_sum
from losses.ops.tiles.sizes import sizes

SPARSE = 4  # a row is gathered where it names fewer columns than one in so many
SORTED = 16  # pairs are sorted, and not counted in a matrix, where they are fewer than one in so many


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
    place = torch.add(column, row, alpha=width)
    counts = None
    small = height * width <= sizes().strip  # every operation costs as much as all numbers
    if not small and len(place) * SORTED < height * width:
        once, times = torch.unique(place, return_counts=True)
    else:
        counts = torch.zeros(height * width, dtype=dtype, device=place.device)
        counts.scatter_add_(0, place, counts.new_ones(()).expand(len(place)))
        if small or len(place) * SPARSE >= height * width:
            return Named(None, counts.view(shape))
        once = counts.nonzero().squeeze(1)
        times = counts.index_select(0, once)
    rows = once // width
    of_row = torch.bincount(rows, minlength=height)
    most = int(of_row.amax()) if height else 0
    if most * SPARSE > width:
        if counts is None:
            counts = torch.zeros(height * width, dtype=dtype, device=place.device)
            counts.index_copy_(0, once, times.to(dtype))
        return Named(None, counts.view(shape))
    # the how manieth of its row
    beside = torch.arange(len(once), device=once.device) - (of_row.cumsum(0) - of_row).index_select(0, rows)
    side_by_side = beside + rows * max(1, most)
    columns = once.new_zeros(height * max(1, most)).index_copy_(0, side_by_side, once - rows * width)
    often = torch.zeros(height * max(1, most), dtype=dtype, device=place.device)
    often.index_copy_(0, side_by_side, times.to(dtype))
    return Named(columns.view(height, -1), often.view(height, -1))


def tiled_named_rows(
    tiles: Tiles,
    weight: Tensor | None,
    *,
    positive: Named,
    negative: Named,
    absent: tuple[float, float],
    cost: Callable[[NamedRows], Costs],
    count: Callable[[NamedRows], Tensor],
) -> TileSums:
    """Return the sum over anchors and how many count: the formula and its gradient, block by block.

    Args:
        tiles: of what is measured.
        weight: of every anchor ``(N, 1)``.
        positive, negative: whom the indices name.
        absent: what positives and negatives measure that are not meant.
        cost: of every anchor ``(B, 1)``, and its derivatives by what it measures.
        count: how often an anchor counts ``(B, 1)``.
    """
    total, number = no_sum(tiles), no_sum(tiles)
    for tile in tiles:
        measure_itself(tile)
        of_rows = None if weight is None else weight[tile.rows]
        sides = [side_of(tile, each) for each in (positive, negative)]
        values, times = zip(
            *((some.masked_fill(often == 0, fill), often) for (some, often), fill in zip(sides, absent, strict=True)),
            strict=True,
        )

        block = NamedRows(*values, *times)
        items, slopes = cost(block)
        total += exact_sum(items, of_rows)
        number += exact_sum(count(block), of_rows)
        if tiles.differentiable:
            gradient = tile.scratch(2).zero_()
            for slope, often, each in zip(slopes, times, (positive, negative), strict=True):
                slope = slope.masked_fill(often == 0, 0)
                slope = slope if of_rows is None else weighted(slope, of_rows)
                if each.column is None:
                    gradient += slope
                else:
                    gradient.scatter_add_(1, each.column[tile.rows], slope)
            take_back(tile, gradient)
    return TileSums([total], [number])


def by_formula(formula: Callable[[NamedRows], Tensor]) -> Callable[[NamedRows], Costs]:
    """Return a formula of anchors ``(B, 1)`` that tells its derivatives too, found by autograd."""

    def cost(rows: NamedRows) -> Costs:
        return by_autograd(lambda *values: formula(NamedRows(*values, *rows[2:])), rows[:2], None)

    return cost


def side_of(tile: Tile, side: Named) -> tuple[Tensor, Tensor]:
    """Return what the rows of a block measure to those whom indices name, and how often they do."""
    times = side.times[tile.rows]
    return (tile.values if side.column is None else tile.values.gather(1, side.column[tile.rows])), times
