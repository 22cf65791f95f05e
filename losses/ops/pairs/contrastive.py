"""The contrastive loss over all pairs of a batch, in blocks of their distances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from losses.ops.elementwise.arrays import Array, array
from losses.ops.numerics.constants import constant
from losses.ops.rowwise import RowCosts
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
    counted, once = average != "all", tiles.upper and not tiles.is_one_block
    for tile in tiles:
        band = classes.band(tile)
        own = classes.own(tile, band)
        lack = torch.sub(margin, tile.values, out=tile.scratch(1)).clamp_(min=0)
        lack[:, band].masked_fill_(own, 0)
        if once:  # the block on the diagonal holds each pair twice
            lack[:, : len(lack)].triu_(1)
            own.triu_(1 - band.start)
        else:
            tile.at_itself(own, False, band)
        excess = (tile.values[:, band] - positive_margin).clamp_(min=0).masked_fill_(~own, 0)
        pair_weight = None
        if weight is not None:
            pair_weight = (of_rows[tile.rows] + of_rows[tile.columns].mT) / 2 if tiles.itself else of_rows[tile.rows]
        # the gradient by a Euclidean distance is divided by it; other values have had their use
        free = tile.scratch(3) if tiles.measure == "euclidean" else tile.values
        of_within, of_lack = (
            add_excess(costs, buffers, weights, sums[part:], counts[part:], power=power, counted=counted)
            for costs, buffers, weights, part in (
                (excess, [torch.empty_like(excess) for _ in range(2)], in_band(pair_weight, band), 0),
                (lack, [tile.scratch(2), free], pair_weight, parts - 1),
            )
        )
        if not tiles.differentiable:
            continue
        of_lack.neg_()
        if average == "balanced":
            tile.accumulate_gradient(of_within, 0, band, symmetric=tiles.is_one_block)
        else:
            of_lack[:, band].add_(of_within)
        tile.accumulate_gradient(of_lack, parts - 1, symmetric=tiles.is_one_block)
    if tiles.is_one_block:  # which has seen each pair twice
        sums /= 2
        if average != "all":
            counts /= 2
    return TileSums(list(sums), list(counts))


def tiled_contrastive_between(
    tiles: Tiles,
    classes: Classes,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> TileSums:
    """Return the same of anchors and another set: there the pairs of one class, which are few of many, are taken out of
    a block, so that passes over the whole of it are about different classes alone."""
    parts = 1 + (average == "balanced")
    sums, counts = (torch.zeros(parts, dtype=torch.float64, device=classes.rows.device) for _ in range(2))
    if average == "all":
        others = tiles.width - int(classes.place is not None)
        counts += others * (tiles.height if weight is None else weight.sum(dtype=torch.float64))
    for tile in tiles:
        column, exists = classes.positive_columns(tile)
        excess = tile.values.gather(1, column).sub_(positive_margin).clamp_(min=0).masked_fill_(~exists, 0)
        lack = torch.sub(margin, tile.values, out=tile.scratch(1)).clamp_(min=0)
        band = classes.band(tile)
        lack[:, band].masked_fill_(classes.own(tile, band), 0)
        of_rows = None if weight is None else weight[tile.rows]
        of_within, of_lack = (
            add_excess(costs, free, of_rows, sums[part:], counts[part:], power=power, counted=average != "all")
            for costs, free, part in (
                (excess, [torch.empty_like(excess) for _ in range(2)], 0),
                (lack, [tile.scratch(number) for number in (2, 3)], parts - 1),
            )
        )
        if tiles.differentiable and average == "balanced":
            tile.accumulate_gradient_at(of_within, column, 0)
            tile.accumulate_gradient(of_lack.neg_(), 1)
        elif tiles.differentiable:
            tile.accumulate_gradient(of_lack.neg_().scatter_add_(1, column, of_within))
    return TileSums(list(sums), list(counts))


def in_band(weight: Tensor | None, band: slice) -> Tensor | None:
    """Return the weights of some columns of pairs, of those of all columns ``(B, M)`` or of their rows ``(B, 1)``."""
    return weight if weight is None or weight.shape[1] == 1 else weight[:, band]


def add_excess(
    excess: Tensor,
    free: Sequence[Tensor],
    weight: Tensor | None,
    sums: Tensor,
    counts: Tensor,
    *,
    power: int,
    counted: bool,
) -> Tensor:
    """Add what pairs cost that exceed their margin ``(B, ...)``, and how many they are if that is asked for, to the
    first of the sums and counts, and return the derivatives; two tensors like the excess are free to be used."""
    if weight is not None:
        excess.masked_fill_(weight == 0, 0)  # which may be infinite, and that times 0 is NaN
    # weighted before it is squared, as a square can overflow
    costs = slopes = excess if weight is None else torch.mul(excess, weight, out=free[0])
    if power == 2:
        costs = torch.mul(slopes, excess, out=free[1]).mul_(0.5)
    sums[0] += exact_sum(costs)
    if counted or power == 1:
        active = torch.ne(excess, 0, out=free[1])  # a NaN is active too
        active = active if weight is None else active.mul_(weight)
        counts[0] += exact_sum(active) if counted else 0
        slopes = active if power == 1 else slopes
    return slopes


def near_costs(distances: Tensor, *, margin: float, power: int) -> tuple[Tensor, tuple[Tensor]]:
    """Return max(0, d - m+)^p / p of pairs of one class ``(P,)``, and the derivatives; distances are overwritten."""
    excess = distances.sub_(constant(margin, distances)).relu_()
    if power == 1:
        return excess, (excess.sign(),)
    return excess.square().mul_(constant(0.5, excess)), (excess,)


def far_costs(distances: Tensor, *, margin: float, power: int) -> tuple[Tensor, tuple[Tensor]]:
    """Return max(0, m - d)^p / p of pairs of two classes ``(P,)``, and the derivatives; distances are overwritten."""
    lack = distances.sub_(constant(margin, distances)).clamp_(max=0)
    if power == 1:
        return lack.neg(), (lack.sign(),)
    return lack.square().mul_(constant(0.5, lack)), (lack,)


def costs_of_pairs(
    target: Tensor, measure: str, *, margin: float, positive_margin: float, power: int, counts_free: bool
) -> RowCosts:
    """Return what given pairs cost, positive where the target is above 0."""
    settings: dict[str, Any] = {"target": target, "margin": margin, "positive_margin": positive_margin, "power": power}
    costs, array_cost = partial(pair_costs, **settings), partial(array_costs, **settings)
    return RowCosts(((0, 1),), measure, costs, counts_free, array_cost)


def pair_costs(
    distances: Tensor, *, target: Tensor, margin: float, positive_margin: float, power: int
) -> tuple[Tensor, Tensor]:
    """Return what pairs of one class and of two cost, and the derivatives."""
    excess = (distances - constant(positive_margin, distances)).relu_() if positive_margin else distances
    lack = (distances - constant(margin, distances)).clamp_(max=0)
    signed = torch.where(target > 0, excess, lack)
    return (signed.abs(), signed.sign()) if power == 1 else (signed.square().mul_(constant(0.5, signed)), signed)


def array_costs(
    distances: Array, *, target: Tensor, margin: float, positive_margin: float, power: int
) -> tuple[Array, Array]:
    """Return the same of few in NumPy."""
    (distance,) = distances
    excess = np.maximum(distance - positive_margin, 0) if positive_margin else distance
    signed = np.where(array(target) > 0, excess, np.minimum(distance - margin, 0))
    slopes = signed[np.newaxis]
    return (np.abs(signed), np.sign(slopes)) if power == 1 else (signed * signed * 0.5, slopes)
