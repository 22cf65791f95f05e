"""Losses made from two sums of every anchor, in which a pair is looked at once although both its ends add it up.

What an anchor adds up its partner adds up too. So the exponentials of all pairs are summed in a first pass, for rows
and columns at once, and weighted in a second, when it is known by how much either end's cost depends on its sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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


class ByPairs(NamedTuple):
    """A loss made from two sums of every anchor.

    Args:
        cost: from an anchor's sum of exponentials and its sum over positives, each ``(N, 1)``, to ``(N, 1)``; float64.
        of_positive: what a similarity ``(B, P)`` adds to the sum over positives of both its ends; ``None`` is itself.
        everyone: whether the exponentials are those of everyone, or of negatives alone.
        counted: which anchors count ``(N, 1)``.
    """

    cost: Callable[[Tensor, Tensor], Tensor]
    of_positive: Callable[[Tensor], Tensor] | None
    everyone: bool
    counted: Tensor


def tiled_by_pairs(tiles: Tiles, classes: Classes, weight: Tensor | None, loss: ByPairs) -> TileSums:
    """Return the sum of what anchors cost, for a set that meets itself, and the number of those that count.

    Similarities are not shifted before they are exponents: the scale is at most
    :data:`losses.ops.pairs.log_sums.MODEST`.

    Args:
        tiles: of similarities, each pair once.
        classes: of the set.
        weight: of every row ``(N, 1)``.
        loss: what anchors and pairs cost.
    """
    seen = list(pair_blocks(tiles, classes, loss)) if tiles.is_one_block else None
    sums, _ = sums_of_ends(tiles, seen or pair_blocks(tiles, classes, loss), loss)
    row_weight = loss.counted.double() if weight is None else loss.counted * weight.double()
    costs, slopes = by_autograd(loss.cost, sums.unbind(), row_weight, wanted=tiles.differentiable)
    if tiles.differentiable:
        of_sums = torch.stack(slopes).to(tiles.first.dtype)
        hand_back(seen or pair_blocks(tiles, classes, loss), loss, of_sums, of_sums)
    return TileSums([exact_sum(costs.clamp_(min=0), row_weight)], [exact_sum(row_weight)])  # below 0 only by rounding


def sums_of_ends(tiles: Tiles, blocks: Iterable[PairBlock], loss: ByPairs) -> tuple[Tensor, Tensor]:
    """Return the two sums of every row ``(2, N, 1)`` and of every column ``(2, M, 1)``, in float64; of a set that meets
    itself they are the same."""
    of_rows = torch.zeros(2, tiles.height, 1, dtype=torch.float64, device=tiles.first.device)
    of_columns = of_rows if tiles.itself else of_rows.new_zeros(2, tiles.width, 1)
    for tile, exponentials, positives, _, terms in blocks:
        if loss.of_positive is not None:
            terms = loss.of_positive(terms).masked_fill_(~positives.exists, 0)
        terms = terms.double()
        of_rows[0, tile.rows] += exponentials.sum(1, keepdim=True)
        of_rows[1, tile.rows] += terms.sum(1, keepdim=True)
        if not tiles.is_one_block:  # which holds each pair in both its orders
            of_columns[0, tile.columns] += exponentials.sum(0).unsqueeze(1)
            of_columns[1].index_add_(0, positives.column.flatten(), terms.reshape(-1, 1))
    return of_rows, of_columns


def hand_back(blocks: Iterable[PairBlock], loss: ByPairs, of_rows: Tensor, of_columns: Tensor) -> None:
    """Hand the derivative of every block back, given those by the sums of rows ``(2, N, 1)`` and of columns
    ``(2, M, 1)``."""
    for tile, exponentials, positives, column, similarities in blocks:
        gradient = times_sums(exponentials, of_rows[0, tile.rows], of_columns[0, tile.columns].mT)
        slope = (of_rows[1, tile.rows] + of_columns[1, positives.column].squeeze(2)).mul_(positives.exists)
        if loss.of_positive is not None:
            _, (slope,) = by_autograd(loss.of_positive, [similarities], slope)
        tile.accumulate_gradient(gradient.scatter_add_(1, column, slope), symmetric=tile.tiles.itself)


def pair_blocks(tiles: Tiles, classes: Classes, loss: ByPairs) -> Iterator[PairBlock]:
    """Yield every block as exponentials, 0 within classes unless they are those of everyone."""
    for tile in tiles:
        positives, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~positives.exists, 0)
        if not loss.everyone:
            band = classes.band(tile)
            tile.values[:, band].masked_fill_(classes.own(tile, band), -torch.inf)
        yield PairBlock(tile, exponentiated(tile), positives, column, similarities)


def positive_pairs(tile: Tile, classes: Classes) -> tuple[PositiveColumns, Tensor]:
    """Return the positives of every row, each pair once or in both its orders as
    :func:`losses.ops.pairs.log_sums.exponentiated`, and their place in the block."""
    positives = classes.positive_columns(tile)
    if tile.tiles.upper and not tile.tiles.is_one_block:
        rows = torch.arange(tile.rows.start, tile.rows.stop, device=positives.column.device)
        positives.exists.logical_and_(positives.column > rows.unsqueeze(1))
    return positives, (positives.column - tile.columns.start).clamp_(min=0)
