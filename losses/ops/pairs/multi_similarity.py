"""The multi-similarity loss over all pairs of a labelled batch, each looked at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.ops.pairs.by_pairs import ByPairs, tiled_by_pairs
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums


def multi_similarity_by_pairs(classes: Classes, *, alpha: float, beta: float, base: float) -> ByPairs:
    """Return the loss as one of two sums of every anchor. Similarities come times beta."""

    def cost(negatives: Tensor, positives: Tensor) -> Tensor:
        of_positives = (math.exp(alpha * base) * positives).log1p() / alpha
        return of_positives + (math.exp(-beta * base) * negatives).log1p() / beta

    def of_positive(similarity: Tensor) -> Tensor:
        return (similarity * (-alpha / beta)).exp()

    everybody = torch.ones(len(classes.rows), 1, dtype=torch.bool, device=classes.rows.device)
    return ByPairs(cost, of_positive, everyone=False, counted=everybody)


def tiled_multi_similarity(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, alpha: float, beta: float, base: float
) -> TileSums:
    """Return the sum of :func:`losses.metric.multi_similarity.multi_similarity` over all anchors, and their number."""
    return tiled_by_pairs(tiles, classes, weight, multi_similarity_by_pairs(classes, alpha=alpha, beta=beta, base=base))
