"""The contrastive loss over all pairs of a batch, in blocks of their distances."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import exact_sum


def tiled_contrastive(
    tiles: Tiles,
    classes: Classes,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> TileSums:
    """Return the sums of max(0, d - m+)^p / p over pairs of one class and of max(0, m - d)^p / p over the rest, and
    their counts.

    A pair within a set weighs the mean of its two ends, one with another set what its anchor weighs. Where the average
    is ``"balanced"`` the sums and counts are two: of one class, and of different ones.
    """
    of_rows = tiles.first.new_ones(tiles.height, 1) if weight is None else weight
    parts = 1 + (average == "balanced")
    sums, counts = (torch.zeros(parts, dtype=torch.float64, device=classes.rows.device) for _ in range(2))
    if average == "all":
        others = tiles.width - int(classes.place is not None)
        counts += of_rows.sum(dtype=torch.float64) * (others / 2 if tiles.itself else others)
    for tile in tiles:
        distances, band = tile.values, classes.band(tile)
        own = classes.own(tile, band)
        excess = torch.sub(margin, distances, out=tile.scratch(1))
        excess[:, band] = torch.where(own, distances[:, band] - positive_margin, excess[:, band])
        excess.clamp_(min=0)
        tile.at_itself(excess, 0)
        if tiles.upper and not tiles.is_one_block:
            excess[:, : len(excess)].triu_(1)  # the block on the diagonal holds each pair twice
        pair_weight = None
        if weight is not None:
            pair_weight = (of_rows[tile.rows] + of_rows[tile.columns].mT) / 2 if tiles.itself else of_rows[tile.rows]
            if tile.exact is not None:  # where distances can be infinite, and infinity times 0 is NaN
                excess.masked_fill_(pair_weight == 0, 0)
        if average != "all":
            active = (excess != 0).to(excess.dtype)  # a NaN is active too
            add_parts(counts, active if pair_weight is None else active.mul_(pair_weight), own, band)
        # weighted before it is squared, as a square can overflow
        weighted = excess if pair_weight is None else torch.mul(excess, pair_weight, out=tile.scratch(3))
        items = weighted if power == 1 else torch.mul(weighted, excess, out=tile.scratch(2)).mul_(0.5)
        add_parts(sums, items, own, band)
        if tiles.differentiable:
            if power == 1:
                slope = torch.sign(excess, out=tile.scratch(2)).neg_()
                slope = slope if pair_weight is None else slope.mul_(pair_weight)
            else:
                slope = torch.neg(weighted, out=tile.scratch(2))
            within = slope[:, band]
            if average == "balanced":
                of_within = within.neg().masked_fill_(~own, 0)
                tile.accumulate_gradient(of_within, 0, band, symmetric=tiles.is_one_block)
                within.masked_fill_(own, 0)
                tile.accumulate_gradient(slope, 1, symmetric=tiles.is_one_block)
            else:
                within.copy_(torch.where(own, -within, within))
                tile.accumulate_gradient(slope, symmetric=tiles.is_one_block)
    if tiles.is_one_block:  # which has seen each pair twice
        sums /= 2
        if average != "all":
            counts /= 2
    return TileSums(list(sums), list(counts))


def near_costs(distances: Tensor, *, margin: float, power: int) -> tuple[Tensor, tuple[Tensor]]:
    """Return max(0, d - m+)^p / p of pairs of one class ``(P,)``, and the derivatives; distances are overwritten."""
    excess = distances.sub_(margin).clamp_(min=0)
    if power == 1:
        return excess, (excess.sign(),)
    return excess.square().mul_(0.5), (excess,)


def far_costs(distances: Tensor, *, margin: float, power: int) -> tuple[Tensor, tuple[Tensor]]:
    """Return max(0, m - d)^p / p of pairs of two classes ``(P,)``, and the derivatives; distances are overwritten."""
    lack = distances.sub_(margin).clamp_(max=0)
    if power == 1:
        return lack.neg(), (lack.sign(),)
    return lack.square().mul_(0.5), (lack,)


def pair_costs(
    distances: Tensor, *, same: Tensor, margin: float, positive_margin: float, power: int
) -> tuple[Tensor, Tensor]:
    """Return what pairs of one class and of two cost, and the derivatives."""
    excess = (distances - positive_margin).clamp_(min=0) if positive_margin else distances
    lack = (distances - margin).clamp_(max=0)
    signed = torch.where(same, excess, lack)
    return (signed.abs(), signed.sign()) if power == 1 else (signed.square().mul_(0.5), signed)


def add_parts(totals: Tensor, items: Tensor, own: Tensor, band: slice) -> None:
    """Add the items of a block to one total; or to two, of those in the band that are a row's own and of the others."""
    if len(totals) == 1:
        totals += exact_sum(items)
        return
    within = items[:, band]  # masked, for infinity times 0 is NaN
    totals[0] += exact_sum(within.masked_fill(~own, 0))
    totals[1] += exact_sum(within.masked_fill(own, 0))
    totals[1] += exact_sum(items[:, : band.start]) + exact_sum(items[:, band.stop :])
