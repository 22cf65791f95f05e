"""The multi-similarity loss over all pairs of a labelled batch, each looked at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.ops.pairs.by_pairs import tiled_by_pairs
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums


def tiled_multi_similarity(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, alpha: float, beta: float, base: float
) -> TileSums:
    """Return the sum of :func:`losses.metric.multi_similarity.multi_similarity` over all anchors, and their number.

    Similarities come times beta.
    """

    def cost(negatives: Tensor, positives: Tensor) -> Tensor:
        of_positives = (math.exp(alpha * base) * positives).log1p() / alpha
        return of_positives + (math.exp(-beta * base) * negatives).log1p() / beta

    def of_positive(similarity: Tensor) -> Tensor:
        return (similarity * (-alpha / beta)).exp()

    everybody = torch.ones(tiles.height, 1, dtype=torch.bool, device=tiles.first.device)
    return tiled_by_pairs(tiles, classes, weight, cost=cost, of_positive=of_positive, everyone=False, counted=everybody)
