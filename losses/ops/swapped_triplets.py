"""Triplets whose negative counts at its distance to the anchor or to the positive, whichever is less.

The distance to a negative then depends on the positive, so counting does not help: there is a pass for every positive.
But the positives of an anchor are anchors themselves, and in a block of whole classes their distances stand in the same
block. Memory is that of N times the largest class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.classes import Classes
from losses.ops.log_space import softplus
from losses.ops.tiles import Tiles
from losses.ops.triplets import nothing_yet, own_distances, restore, total


def tiled_swapped(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the sums of :func:`losses.ops.triplets.blocks_of_all` with swap, weighted by anchor; the blocks hold whole
    classes."""
    counted = nothing_yet(classes, weight)
    for tile in tiles:
        distances, near = tile.values, classes.near(tile)
        positives = distances.gather(1, near.column)
        own, band = own_distances(tile, classes)
        own.masked_fill_(band, torch.inf)
        thresholds = positives.masked_fill(~near.exists, -torch.inf) + (margin or 0)
        gradient, of_positives = tile.scratch(1).zero_(), torch.empty_like(positives)
        cost, active = positives.new_zeros(len(positives), 1), positives.new_zeros(len(positives), 1)
        for place in range(near.column.shape[1]):
            rows = (near.column[:, place] - tile.rows.start).clamp_(0, len(distances) - 1)
            far = torch.index_select(distances, 0, rows, out=tile.scratch(2))
            nearer = torch.lt(far, distances, out=tile.scratch(3))
            difference = torch.sub(thresholds[:, place : place + 1], torch.minimum(far, distances, out=far), out=far)
            if margin is None:
                cost += softplus(difference).sum(1, keepdim=True)
                slope = difference.sigmoid_()
            else:
                cost += difference.clamp_(min=0).sum(1, keepdim=True)
                slope = difference.sign_()
                active += slope.sum(1, keepdim=True)
            if tiles.differentiable:
                slope = slope if weight is None else slope.mul_(weight[tile.rows])
                of_positives[:, place] = slope.sum(1)
                gradient -= slope
                # where the positive is nearer, the derivative is by its distance and not by the anchor's
                moved = nearer.mul_(slope)
                gradient += moved
                gradient.index_add_(0, rows, moved, alpha=-1)
        counted.cost.add_(total(cost, tile, weight))
        counted.active.add_(total(active, tile, weight))
        if tiles.differentiable:
            restore(tile, own, band, near, positives)
            tile.pull(gradient.scatter_add_(1, near.column, of_positives))
    if margin is None:
        counted.active.copy_(counted.triplets)
    return counted.outputs()
