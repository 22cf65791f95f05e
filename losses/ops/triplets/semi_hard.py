"""Semi-hard triplets of a labelled batch: for every positive the nearest negative that is farther, else the
farthest."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.distances import just_beyond
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import anchor_blocks
from losses.ops.triplets.definitions import cost
from losses.ops.triplets.hardest import lowest
from losses.ops.triplets.sums import no_triplets

SEARCHED_ONE_BY_ONE = 20  # positives of an anchor above which sorting all negatives is faster than a search for each


def tiled_semi_hard(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float | None, average: Average
) -> TileSums:
    """Return the sums over the triplets of :func:`losses.ops.triplets.definitions.semi_hard`, weighted by anchor, over
    blocks of anchors.

    The blocks have to be precise: of negatives that lie about as far as a positive, rounding would choose one, and with
    it the gradient of three points.
    """
    totals = no_triplets(classes, weight, classes.negatives.clamp(max=1))
    squares = tiles.squares_of_rows()
    for block in anchor_blocks(tiles, classes, weight):
        if not block.column.numel():
            continue
        positives = block.positives
        # a negative infinitely far away is farther than any positive, and is told from what is no negative
        block.values.clamp_(max=torch.finfo(positives.dtype).max)
        negatives = classes.negatives[block.rows].unsqueeze(1)
        distances = block.fill_own(torch.inf)
        exists = block.exists & (negatives > 0)
        beyond = just_beyond(positives, squares[block.rows], tiles.first.shape[1], tiles.measure)
        chosen = semi_hard_columns(distances, beyond, negatives)
        difference = (positives - distances.gather(1, chosen)).masked_fill_(~exists, 0)
        values = cost(difference, margin).masked_fill_(~exists, 0)
        active = exists if margin is None else values != 0
        slope = difference.sigmoid() if margin is None else active.to(values.dtype)
        slope.masked_fill_(~exists, 0)
        totals.cost.add_(block.total(values))
        totals.active.add_(block.total(active.sum(1, keepdim=True, dtype=torch.float64)))
        if tiles.differentiable:
            block.restore_own()
            of_negatives = block.scratch(1).zero_().scatter_add_(1, chosen, -slope)
            block.accumulate_gradient(of_negatives, slope)
    return totals.over(average)


def semi_hard_columns(distances: Tensor, thresholds: Tensor, negatives: Tensor) -> Tensor:
    """Return the column of the nearest negative beyond each threshold ``(B, P)``, else of the farthest one.

    Args:
        distances: ``(B, M)``, infinite but for the negatives.
        thresholds: ``(B, P)``.
        negatives: how many each row has, ``(B, 1)``.
    """
    if thresholds.shape[1] > SEARCHED_ONE_BY_ONE or not distances.shape[1]:
        rivals, order = distances.sort(1)
        beyond = torch.searchsorted(rivals, thresholds, right=True)
        return order.gather(1, torch.minimum(beyond, negatives - 1).clamp_(min=0))
    farthest = lowest(torch.neg(distances).masked_fill_(distances == torch.inf, torch.inf))
    columns, ahead = torch.empty_like(thresholds, dtype=torch.long), torch.empty_like(distances)
    for place in range(thresholds.shape[1]):
        threshold = thresholds[:, place : place + 1]
        column = lowest(torch.threshold_(torch.sub(distances, threshold, out=ahead), 0, torch.inf))
        columns[:, place] = torch.where(ahead.gather(1, column.unsqueeze(1)).squeeze(1) < torch.inf, column, farthest)
    return columns
