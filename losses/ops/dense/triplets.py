"""The triplets of a small batch, formed one by one: every positive pair beside all negatives of its anchor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.distances import just_beyond
from losses.ops.triplets.definitions import cost


def dense_triplets(
    matrix: DenseMatrix,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float | None,
    average: Average,
    swap: bool,
    pairs: Sequence[Tensor],
) -> DenseSums:
    """Return the sum over all triplets, and the number of those that still cost something or of all."""
    distances = matrix.values
    anchor, other = pairs
    rivals = distances.masked_fill(positive, torch.inf)
    far = rivals.index_select(0, anchor)
    if swap:
        of_positive = rivals.index_select(0, other)
        nearer = of_positive < far
        far = torch.minimum(far, of_positive)
    difference = distances[anchor, other].unsqueeze(1) - far
    if margin is None:
        costs, slopes = cost(difference, margin), difference.sigmoid_()
    else:
        costs = difference.add_(margin).clamp_(min=0)
        slopes = costs.sign()
    if weight is not None:
        of_pairs = weight[anchor]
        costs, slopes = costs * of_pairs, slopes * of_pairs
    of_near = slopes.sum(1)
    if average == "active" and margin is not None:
        counted = of_near.sum()
    else:
        positives = positive.sum(1, keepdim=True)
        triplets = positives * (positive.shape[1] - matrix.itself - positives)
        counted = triplets.sum(dtype=matrix.dtype) if weight is None else (triplets * weight).sum()
    if not matrix.differentiable:
        return DenseSums(costs.sum(), counted)
    gradient = torch.zeros_like(distances)
    gradient[anchor, other] = of_near
    if swap:
        moved = slopes * nearer
        gradient.index_add_(0, other, moved, alpha=-1)
        slopes -= moved
    return DenseSums(costs.sum(), counted, gradient.index_add_(0, anchor, slopes, alpha=-1))


def dense_mined(
    matrix: DenseMatrix,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float | None,
    average: Average,
    swap: bool,
    pairs: Sequence[Tensor] | None = None,
) -> DenseSums:
    """Return the sum over the triplets that are mined, and the number of those that still cost something or of all:
    with ``pairs`` a semi-hard negative for each of them, else the hardest of each anchor."""
    distances = matrix.values
    anchor, other, rival = hardest(matrix, positive) if pairs is None else semi_hard(matrix, positive, pairs)
    difference = distances[anchor, other] - distances[anchor, rival]
    row = anchor  # of the distance to the rival
    if swap:
        swapped = distances[anchor, other] - distances[other, rival]
        row = torch.where(swapped > difference, other, anchor)
        difference = torch.maximum(difference, swapped)
    costs = cost(difference, margin)
    slopes = difference.sigmoid() if margin is None else costs.sign()
    counted: Tensor | float = len(anchor)
    if weight is not None:
        of_pairs = weight.squeeze(1)[anchor]
        costs, slopes, counted = costs * of_pairs, slopes * of_pairs, of_pairs.sum()
    if average == "active" and margin is not None:
        counted = slopes.sum()
    if not matrix.differentiable:
        return DenseSums(costs.sum(), counted)
    gradient = torch.zeros_like(distances)
    gradient.index_put_((anchor, other), slopes, accumulate=True)
    return DenseSums(costs.sum(), counted, gradient.index_put_((row, rival), -slopes, accumulate=True))


def hardest(matrix: DenseMatrix, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return every anchor that has both, its farthest positive and its nearest negative, each ``(A,)``."""
    rivals = matrix.values.masked_fill(positive, torch.inf)
    far, rival = rivals.min(1)
    near, other = matrix.values.masked_fill(~positive, -torch.inf).max(1)
    anchor = ((near > -torch.inf) & (far < torch.inf)).nonzero().squeeze(1)
    return anchor, other[anchor], rival[anchor]


def semi_hard(matrix: DenseMatrix, positive: Tensor, pairs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return every anchor with a positive of it, and the nearest negative farther away than that, else the farthest
    negative, each ``(A,)``."""
    rivals = matrix.values.masked_fill(positive, torch.inf)
    has_rival = (rivals.amin(1) < torch.inf)[pairs[0]]
    anchor, other = (part[has_rival] for part in pairs)
    near = matrix.values[anchor, other].unsqueeze(1)
    beyond = just_beyond(near, matrix.squares()[anchor], matrix.first.shape[1], matrix.measure)
    nearest, rival = torch.threshold(rivals[anchor] - beyond, 0, torch.inf).min(1)
    farthest = rivals.masked_fill(rivals == torch.inf, -torch.inf).argmax(1)
    return anchor, other, torch.where(nearest < torch.inf, rival, farthest[anchor])
