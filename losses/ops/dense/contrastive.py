"""The contrastive loss over all pairs of a small batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix


def dense_contrastive(
    matrix: DenseMatrix,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> DenseSums:
    """Return the sums and counts of :func:`losses.ops.pairs.contrastive.tiled_contrastive`."""
    signs = torch.where(positive, 1.0, -1.0)
    excess = torch.where(positive, -positive_margin, margin).addcmul(signs, matrix.values).clamp_(min=0)
    active = excess.sign()
    share = shares(matrix, weight)
    sides = torch.stack([positive, ~positive]) * share if average == "balanced" else share
    if average != "all":
        counted: Tensor | float = (active * sides).sum((-2, -1))
    else:
        pairs_of_each = (len(positive) - 1) / 2 if matrix.itself else positive.shape[1]
        counted = pairs_of_each * (len(positive) if weight is None else weight.sum())
    slopes, items = (active, excess) if power == 1 else (excess, excess.square() / 2)
    sums = (items * sides).sum((-2, -1)), counted
    if not matrix.differentiable:
        return DenseSums(*sums)
    return DenseSums(*sums, signs.mul_(slopes) * share, 1.0, positive if average == "balanced" else None)


def shares(matrix: DenseMatrix, weight: Tensor | None) -> Tensor | float:
    """Return what every entry of a matrix weighs: its anchor's weight, or half the mean of both ends where every pair
    stands in two places."""
    if not matrix.itself:
        return 1.0 if weight is None else weight
    return 0.5 if weight is None else (weight + weight.mT) / 4
