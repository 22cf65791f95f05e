"""The contrastive loss over all pairs of a batch: a kernel over the blocks of their distances
(:mod:`losses.ops.tiles`)."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.classes import Classes
from losses.ops.tiles import Tiles

Sums = tuple[list[Tensor], list[Tensor]]


def tiled_contrastive(
    tiles: Tiles,
    classes: Classes,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> Sums:
    """Return the sums of max(0, d - m+)^p / p over pairs of one class and of max(0, m - d)^p / p over the rest, and
    their counts.

    A pair within a set weighs the mean of its two ends, one with another set what its anchor weighs. Where the average
    is ``"balanced"`` the sums and counts are two: of one class, and of different ones.
    """
    of_rows = tiles.first.new_ones(tiles.height, 1) if weight is None else weight
    sums, counts = (
        torch.zeros(1 + (average == "balanced"), dtype=torch.float64, device=classes.rows.device) for _ in range(2)
    )
    if average == "all":
        counts += of_rows.sum(dtype=torch.float64) * ((tiles.width - 1) / 2 if tiles.itself else tiles.width)
    for tile in tiles:
        distances, band = tile.values, classes.band(tile)
        own = classes.own(tile, band)
        excess = torch.sub(margin, distances, out=tile.scratch(1))
        excess[:, band] = torch.where(own, distances[:, band] - positive_margin, excess[:, band])
        excess.clamp_(min=0)
        tile.at_itself(excess, 0)
        if tiles.upper and not tiles.is_one_block:
            excess[:, : len(excess)].triu_(1)  # the block on the diagonal holds each pair twice
        share = None
        if weight is not None:
            share = (of_rows[tile.rows] + of_rows[tile.columns].mT) / 2 if tiles.itself else of_rows[tile.rows]
        if average != "all":
            add_parts(counts, (excess > 0).to(excess.dtype), share, own, band)
        add_parts(
            sums, excess if power == 1 else torch.mul(excess, excess, out=tile.scratch(2)).mul_(0.5), share, own, band
        )
        if tiles.differentiable:
            slope = (
                torch.neg(excess, out=tile.scratch(2)) if power == 2 else torch.sign(excess, out=tile.scratch(2)).neg_()
            )
            if share is not None:
                slope *= share
            near = slope[:, band]
            if average == "balanced":
                tile.pull(near.neg().masked_fill_(~own, 0), 0, band, symmetric=tiles.is_one_block)
                near.masked_fill_(own, 0)
                tile.pull(slope, 1, symmetric=tiles.is_one_block)
            else:
                near.copy_(torch.where(own, -near, near))
                tile.pull(slope, symmetric=tiles.is_one_block)
    if tiles.is_one_block:  # which has seen each pair twice
        sums /= 2
        if average != "all":
            counts /= 2
    return list(sums), list(counts)


def add_parts(totals: Tensor, items: Tensor, share: Tensor | None, own: Tensor, band: slice) -> None:
    """Add the items of a block, weighted, to one total; or to two, of those in the band that are a row's own and of the
    others."""
    if share is not None:
        items = items * share
    if len(totals) == 1:
        totals += exact_sum(items)
        return
    totals[0] += exact_sum(items[:, band] * own)
    totals[1] += exact_sum(items[:, band] * ~own) + exact_sum(items[:, : band.start]) + exact_sum(items[:, band.stop :])


def exact_sum(block: Tensor) -> Tensor:
    """Return the sum of a block, its rows added up in float64."""
    return block.sum(1).sum(dtype=torch.float64)
