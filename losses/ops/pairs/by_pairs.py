"""Losses made from two sums of every anchor, in which a pair is looked at once although both its ends add it up.

What an anchor adds up its partner adds up too. So the exponentials of all pairs are summed in a first pass, for rows
and columns at once, and weighted in a second, when it is known by how much either end's cost depends on its sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from losses.ops.pairs.log_sums import exponentiated, times_sums
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes, PositiveColumns
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import by_autograd, exact_sum


class PairBlock(NamedTuple):
    """A block of similarities whose values have become exponentials, with what there was of positives before."""

    tile: Tile
    exponentials: Tensor
    positives: PositiveColumns
    column: Tensor
    """``(B, P)``, where the positives stand in the block."""
    similarities: Tensor
    """``(B, P)``, to the positives; 0 where none exist."""


def tiled_by_pairs(
    tiles: Tiles,
    classes: Classes,
    weight: Tensor | None,
    *,
    cost: Callable[[Tensor, Tensor], Tensor],
    of_positive: Callable[[Tensor], Tensor] | None,
    everyone: bool,
    counted: Tensor,
) -> TileSums:
    """Return the sum of what anchors cost, for a set that meets itself, and the number of those that count.

    Similarities are not shifted before they are exponents: the scale is at most
    :data:`losses.ops.pairs.log_sums.MODEST`.

    Args:
        tiles: of similarities, each pair once.
        classes: of the set.
        weight: of every row ``(N, 1)``.
        cost: from an anchor's sum of exponentials and its sum over positives, each ``(N, 1)``, to ``(N, 1)``; float64.
        of_positive: what a similarity ``(B, P)`` adds to the sum over positives of both its ends; ``None`` is itself.
        everyone: whether the exponentials are those of everyone, or of negatives alone.
        counted: which anchors count ``(N, 1)``.
    """
    sums = [torch.zeros(tiles.height, 1, dtype=torch.float64, device=tiles.first.device) for _ in range(2)]
    seen = []
    for block in pair_blocks(tiles, classes, everyone):
        tile, exponentials, positives = block[:3]
        terms = block.similarities
        if of_positive is not None:
            terms = of_positive(terms).masked_fill_(~positives.exists, 0)
        terms = terms.double()
        sums[0][tile.rows] += exponentials.sum(1, keepdim=True)
        sums[1][tile.rows] += terms.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append(block)
        else:
            sums[0][tile.columns] += exponentials.sum(0).unsqueeze(1)
            sums[1].index_add_(0, positives.column.flatten(), terms.reshape(-1, 1))
    row_weight = counted.double() if weight is None else counted * weight.double()
    costs, slopes = by_autograd(cost, sums, row_weight, wanted=tiles.differentiable)
    if tiles.differentiable:
        of_exponentials, of_terms = (slope.to(tiles.first.dtype) for slope in slopes)
        for block in seen if tiles.is_one_block else pair_blocks(tiles, classes, everyone):
            tile, exponentials, positives = block[:3]
            gradient = times_sums(exponentials, of_exponentials[tile.rows], of_exponentials[tile.columns].mT)
            slope = (of_terms[tile.rows] + of_terms[positives.column].squeeze(2)).mul_(positives.exists)
            if of_positive is not None:
                _, (slope,) = by_autograd(of_positive, [block.similarities], slope)
            tile.accumulate_gradient(gradient.scatter_add_(1, block.column, slope), symmetric=True)
    return TileSums([exact_sum(costs.clamp_(min=0), row_weight)], [exact_sum(row_weight)])  # below 0 only by rounding


def pair_blocks(tiles: Tiles, classes: Classes, everyone: bool) -> Iterator[PairBlock]:
    """Yield every block as exponentials, 0 within classes unless they are those of everyone."""
    for tile in tiles:
        positives, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~positives.exists, 0)
        if not everyone:
            band = classes.band(tile)
            tile.values[:, band].masked_fill_(classes.own(tile, band), -torch.inf)
        yield PairBlock(tile, exponentiated(tile), positives, column, similarities)


def positive_pairs(tile: Tile, classes: Classes) -> tuple[PositiveColumns, Tensor]:
    """Return the positives of every row, each pair once or in both its orders as
    :func:`losses.ops.pairs.log_sums.exponentiated`, and their place in the block."""
    positives = classes.positive_columns(tile)
    if not tile.tiles.is_one_block:
        rows = torch.arange(tile.rows.start, tile.rows.stop, device=positives.column.device)
        positives.exists.logical_and_(positives.column > rows.unsqueeze(1))
    return positives, (positives.column - tile.columns.start).clamp_(min=0)
