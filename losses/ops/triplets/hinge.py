"""The hinge over all triplets of a labelled batch, by counting."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.elementwise.arrays import Array
from losses.ops.numerics.constants import constant
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import AnchorBlock, anchor_blocks, strips
from losses.ops.triplets.definitions import endless, farthest_told, top
from losses.ops.triplets.sums import no_triplets

COMPARED_ONE_BY_ONE = 150  # positives of an anchor above which sorting them is faster than comparing with each


def tiled_hinge(tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float, average: Average) -> TileSums:
    """Return the sums of :func:`losses.ops.triplets.definitions.hinge_of_all`, weighted by anchor, over blocks of
    anchors."""
    totals = no_triplets(classes, weight)
    for block in anchor_blocks(tiles, classes, weight):
        positives = block.positives
        distances = block.fill_own(torch.inf)
        thresholds = (positives + margin).masked_fill_(~block.exists, -torch.inf)
        slope, below = counts(distances, thresholds, block)
        block.restore_own()
        centre = top(thresholds)
        gain = (below * (positives - centre + margin)).masked_fill_(~block.exists, 0).sum(1, keepdim=True)
        for rows in strips(distances):
            distance = distances[rows]
            lack = block.scratch(2)[: len(distance)]
            gain[rows].add_(torch.sub(distance, centre[rows], out=lack).mul_(slope[rows]).sum(1, keepdim=True))
        active = below.sum(1, keepdim=True, dtype=torch.float64)
        if block.tile.exact is not None:  # where a positive can be infinitely far
            triplets = (classes.positives * classes.negatives)[block.rows].unsqueeze(1)
            gain, active = endless(gain, active, triplets)
        totals.cost.add_(block.total(gain))
        totals.active.add_(block.total(active))
        if tiles.differentiable:
            block.accumulate_gradient(slope, below)
    # where what is added and what is taken off overflow both
    return totals._replace(cost=totals.cost.nan_to_num(nan=torch.inf, posinf=torch.inf)).over(average)


def counts(distances: Tensor, thresholds: Tensor, block: AnchorBlock) -> tuple[Tensor, Tensor]:
    """Return minus how many thresholds ``(B, P)`` of its row lie above each distance ``(B, M)``, and how many distances
    below each threshold: the derivatives of the sum over what a distance lacks of the thresholds above it."""
    slope, below = block.scratch(1), torch.zeros_like(thresholds)
    positives = thresholds.shape[1]
    if not positives:
        return slope.zero_(), below
    if positives <= COMPARED_ONE_BY_ONE:
        for rows in strips(distances):
            distance, threshold, above, under = distances[rows], thresholds[rows], slope[rows], below[rows]
            passed = block.scratch(2)[: len(distance)]
            for place in range(positives):
                torch.lt(distance, threshold[:, place : place + 1], out=passed)
                above.sub_(passed) if place else torch.neg(passed, out=above)
                torch.sum(passed, 1, out=under[:, place])
        return slope, below
    ordered, order = thresholds.sort(1)
    reached = torch.searchsorted(ordered, distances, right=True)  # thresholds at or below each distance
    torch.sub(reached, positives, out=slope)
    rivals = slope.new_zeros(len(slope), positives + 1).scatter_add_(1, reached, torch.ones_like(slope))
    return slope, below.scatter_(1, order, rivals.cumsum(1)[:, :positives])


def hinge_costs(near: Tensor, far: Tensor, *, margin: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return max(0, d_ap - d_an + margin) of triplets that are listed ``(T,)``, and the derivatives by both distances,
    which are overwritten."""
    costs = near.sub_(farthest_told(far)).add_(margin).clamp_(min=0)
    active = costs.sign()
    return costs, (active, torch.neg(active, out=far))


def row_hinges(distances: Tensor, *, margin: float) -> tuple[Tensor, Tensor]:
    """Return the same of distances on top of each other ``(2, N)``, and both derivatives likewise."""
    near, far = distances.unbind()
    costs = torch.sub(near, farthest_told(far)).add_(constant(margin, near)).relu_()
    active = costs.sign()
    return costs, torch.stack([active, -active])


def array_hinges(distances: Array, *, margin: float) -> tuple[Array, Array]:
    """Return the same of few in NumPy."""
    near, far = distances
    costs = near - far
    costs += margin
    np.maximum(costs, 0, out=costs)
    np.sign(costs, out=near)
    np.negative(near, out=far)
    return costs, distances
