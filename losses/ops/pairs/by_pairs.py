"""Losses made from two sums of every anchor, in which a pair is looked at once although both its ends add it up.

What an anchor adds up its partner adds up too. So the exponentials of all pairs are summed in a first pass, for rows
and columns at once, and weighted in a second, when it is known by how much either end's cost depends on its sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from losses.ops.pairs.log_sums import exponentiated, times_sums
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes, PositiveColumns
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import by_autograd, exact_sum


def tiled_by_pairs(
    tiles: Tiles,
    classes: Classes,
    weight: Tensor | None,
    *,
    cost: Callable[[Tensor, Tensor], Tensor],
    of_positive: Callable[[Tensor], Tensor],
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
        of_positive: what a similarity ``(B, P)`` adds to the sum over positives of both its ends.
        everyone: whether the exponentials are those of everyone, or of negatives alone.
        counted: which anchors count ``(N, 1)``.
    """
    sums = [torch.zeros(tiles.height, 1, dtype=torch.float64, device=tiles.first.device) for _ in range(2)]
    seen = []
    for tile in tiles:
        positives, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~positives.exists, 0)
        terms = of_positive(similarities).masked_fill(~positives.exists, 0).double()
        exponentials = exponentials_of(tile, classes, everyone)
        for total, part in zip(sums, (exponentials, terms), strict=True):
            total[tile.rows] += part.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append((tile, exponentials, similarities))
        else:
            sums[0][tile.columns] += exponentials.sum(0).unsqueeze(1)
            sums[1].index_add_(0, positives.column.flatten(), terms.reshape(-1, 1))
    row_weight = counted.double() if weight is None else counted * weight.double()
    costs, slopes = by_autograd(cost, sums, row_weight, wanted=tiles.differentiable)
    if tiles.differentiable:
        of_exponentials, of_terms = (slope.to(tiles.first.dtype) for slope in slopes)
        for tile, exponentials, similarities in seen if tiles.is_one_block else again(tiles, classes, everyone):
            positives, column = positive_pairs(tile, classes)
            gradient = times_sums(exponentials, of_exponentials[tile.rows], of_exponentials[tile.columns].mT)
            ends = (of_terms[tile.rows] + of_terms[positives.column].squeeze(2)).mul_(positives.exists)
            _, (slope,) = by_autograd(of_positive, [similarities], ends)
            tile.accumulate_gradient(gradient.scatter_add_(1, column, slope), symmetric=True)
    return TileSums([exact_sum(costs.clamp_(min=0), row_weight)], [exact_sum(row_weight)])  # below 0 only by rounding


def again(tiles: Tiles, classes: Classes, everyone: bool) -> Iterator[tuple[Tile, Tensor, Tensor]]:
    """Yield every block once more, with its exponentials and the similarities to positives."""
    for tile in tiles:
        positives, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~positives.exists, 0)
        yield tile, exponentials_of(tile, classes, everyone), similarities


def exponentials_of(tile: Tile, classes: Classes, everyone: bool) -> Tensor:
    """Return the exponentials of a block in place, 0 within classes unless they are those of everyone."""
    if not everyone:
        band = classes.band(tile)
        tile.values[:, band].masked_fill_(classes.own(tile, band), -torch.inf)
    return exponentiated(tile)


def positive_pairs(tile: Tile, classes: Classes) -> tuple[PositiveColumns, Tensor]:
    """Return the positives of every row, each pair once or in both its orders as
    :func:`losses.ops.pairs.log_sums.exponentiated`, and their place in the block."""
    positives = classes.positive_columns(tile)
    if not tile.tiles.is_one_block:
        rows = torch.arange(tile.rows.start, tile.rows.stop, device=positives.column.device)
        positives.exists.logical_and_(positives.column > rows.unsqueeze(1))
    return positives, (positives.column - tile.columns.start).clamp_(min=0)
