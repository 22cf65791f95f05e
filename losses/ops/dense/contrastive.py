"""The contrastive loss over all pairs of a small batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.reduction import read
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
    """Return the sums and counts of :func:`losses.ops.pairs.contrastive.tiled_contrastive`.

    What pairs of one class exceed their margin by is positive here, what others fall short of theirs by negative: so
    both kinds stand in one matrix, and the sign is that of the derivative too.
    """
    excess = (matrix.values - matrix.number(positive_margin)).relu_() if positive_margin else matrix.values
    short = (matrix.values - matrix.number(margin)).clamp_(max=0)
    signed = matrix.at_itself(short.lerp_(excess, positive), 0)  # positive is 0 or 1: of the one or of the other
    weights = entry_weights(matrix, weight)
    once = 0.5 if weights is None and matrix.itself else 1.0  # every pair stands in two places
    active = signed.sign() if weights is None else signed.sign() * weights
    weighted = signed if weights is None else signed * weights  # before it is squared, as a square can overflow
    items, slopes = (weighted, active) if power == 1 else (weighted * signed.abs(), weighted)
    slopes_or_none = slopes if matrix.differentiable else None
    if average == "balanced":
        both = of_both if matrix.reads else stacked_of_both
        return DenseSums(both(items, once / power), both(active, once), slopes_or_none, once)
    if average == "active":
        counted: Tensor | float = active.abs().sum() * once
    else:
        pairs_of_each = (len(positive) - 1) / 2 if matrix.itself else positive.shape[1]
        counted = pairs_of_each * (len(positive) if weight is None else weight.sum())
    return DenseSums(items.abs().sum() * (once / power), counted, slopes_or_none, once)


def of_both(signed: Tensor, scale: float) -> tuple[float, float]:
    """Return the sum of what is positive and that of what is negative, without its sign."""
    return read(signed.clamp(min=0).sum()) * scale, -read(signed.clamp(max=0).sum()) * scale


def stacked_of_both(signed: Tensor, scale: float) -> Tensor:
    """Return the same ``(2,)``, which nobody has read."""
    return torch.stack([signed.clamp(min=0).sum(), signed.clamp(max=0).sum().neg()]) * scale


def entry_weights(matrix: DenseMatrix, weight: Tensor | None) -> Tensor | None:
    """Return what every entry of a matrix weighs: its anchor's weight, or half the mean of both ends where every pair
    stands in two places."""
    if weight is None:
        return None
    return (weight + weight.mT) / 4 if matrix.itself else weight
