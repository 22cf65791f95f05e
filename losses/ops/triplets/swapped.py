"""Triplets whose negative counts at its distance to the anchor or to the positive, whichever is less.

The distance to a negative then depends on the positive, so counting does not help: there is a pass for every positive.
But the positives of an anchor are anchors themselves, and in a block of whole classes their distances stand in the same
block. Memory is that of N times the largest class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.numerics.log_space import softplus
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import anchor_blocks
from losses.ops.triplets.sums import no_triplets


def tiled_swapped(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float | None, average: Average
) -> TileSums:
    """Return the sums of :func:`losses.ops.triplets.definitions.blocks_of_all` with swap, weighted by anchor; the
    blocks hold whole classes."""
    totals = no_triplets(classes, weight)
    for block in anchor_blocks(tiles, classes, weight):
        positives, distances = block.positives, block.fill_own(torch.inf)
        thresholds = positives.masked_fill(~block.exists, -torch.inf) + (margin or 0)
        gradient, of_positives = block.scratch(1).zero_(), torch.empty_like(positives)
        cost, active = positives.new_zeros(len(positives), 1), positives.new_zeros(len(positives), 1)
        for place in range(positives.shape[1]):
            rows = (block.column[:, place] - block.rows.start).clamp_(0, len(distances) - 1)
            far = torch.index_select(distances, 0, rows, out=block.scratch(2))
            nearer = torch.lt(far, distances, out=block.scratch(3))
            difference = torch.sub(thresholds[:, place : place + 1], torch.minimum(far, distances, out=far), out=far)
            if block.tile.exact is not None:  # where a positive can be infinitely far too
                block.fill_own(-torch.inf, difference)
            if margin is None:
                cost += softplus(difference).sum(1, keepdim=True)
                slope = difference.sigmoid_()
            else:
                cost += difference.clamp_(min=0).sum(1, keepdim=True)
                active += (difference != 0).sum(1, keepdim=True)  # a NaN is active too
                slope = difference.sign_()
            if tiles.differentiable:
                slope = slope if block.weight is None else slope.mul_(block.weight)
                of_positives[:, place] = slope.sum(1)
                gradient -= slope
                # where the positive is nearer, the derivative is by its distance and not by the anchor's
                moved = nearer.mul_(slope)
                gradient += moved
                gradient.index_add_(0, rows, moved, alpha=-1)
        totals.cost.add_(block.total(cost))
        totals.active.add_(block.total(active))
        if tiles.differentiable:
            block.restore_own()
            # weighted already, since a row's derivative may belong to another row's distances
            block.tile.accumulate_gradient(gradient.scatter_add_(1, block.column, of_positives))
    return totals.over("all" if margin is None else average)
