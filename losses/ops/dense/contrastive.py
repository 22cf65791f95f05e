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
    excess = torch.where(positive, matrix.values - positive_margin, margin - matrix.values).clamp_(min=0)
    weights = entry_weights(matrix, weight)
    once = 0.5 if weights is None and matrix.itself else 1.0  # every pair stands in two places
    sides = torch.stack([positive, ~positive]) if average == "balanced" else None
    active = excess.sign() if weights is None else excess.sign() * weights
    slopes = active if power == 1 else excess if weights is None else excess * weights
    sums = total(slopes * excess, sides) * (once / power)  # weighted before it is squared, as a square can overflow
    if average != "all":
        counted: Tensor | float = total(active, sides) * once
    else:
        pairs_of_each = (len(positive) - 1) / 2 if matrix.itself else positive.shape[1]
        counted = pairs_of_each * (len(positive) if weight is None else weight.sum())
    result = DenseSums(sums, counted, scale=once, is_first=positive if average == "balanced" else None)
    if not matrix.differentiable:
        return result
    return result._replace(slopes=torch.where(positive, slopes, -slopes))


def total(values: Tensor, sides: Tensor | None) -> Tensor:
    """Return the sum of a matrix, or the sums over its two sides ``(2, N, M)``."""
    return values.sum() if sides is None else torch.where(sides, values, 0).sum((1, 2))  # 0 times infinity is NaN


def entry_weights(matrix: DenseMatrix, weight: Tensor | None) -> Tensor | None:
    """Return what every entry of a matrix weighs: its anchor's weight, or half the mean of both ends where every pair
    stands in two places."""
    if weight is None:
        return None
    return (weight + weight.mT) / 4 if matrix.itself else weight
