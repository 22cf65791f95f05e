"""The contrastive loss over all pairs of a small batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix


def dense_contrastive(
    matrix: DenseMatrix,
    positive: Tensor,
    negative: Tensor,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> DenseSums:
    """Return the sums and counts of :func:`losses.ops.pairs.contrastive.tiled_contrastive`."""
    distances = matrix.values
    share = shares(matrix, weight)
    if average == "balanced":
        share = torch.stack([positive, negative]) * share
    excess = torch.where(positive, distances - positive_margin, margin - distances).clamp_(min=0)
    active = excess.sign()
    items = excess if power == 1 else excess.square() * 0.5
    if average != "all":
        counted: Tensor | int = (active * share).sum((-2, -1))
    elif weight is None:
        counted = len(distances) * (len(distances) - 1) // 2 if matrix.itself else distances.numel()
    else:
        counted = weight.sum() * ((len(distances) - 1) / 2 if matrix.itself else distances.shape[1])
    sums = (items * share).sum((-2, -1)), counted
    if not matrix.differentiable:
        return DenseSums(*sums)
    slopes = active if power == 1 else excess
    return DenseSums(*sums, torch.where(positive, slopes, -slopes) * share)


def shares(matrix: DenseMatrix, weight: Tensor | None) -> Tensor | float:
    """Return what every entry of a matrix weighs: its anchor's weight, or half the mean of both ends where every pair
    stands in two places."""
    if not matrix.itself:
        return 1.0 if weight is None else weight
    return 0.5 if weight is None else (weight + weight.mT) / 4
