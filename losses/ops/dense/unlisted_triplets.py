"""All triplets of a batch whose positives nobody lists, as to look who they are is to wait for it: from the cube of all
anchors, positives and negatives there could be, or by sorting what every anchor is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.dense.triplets import beyond, cost_and_slopes, number_of_triplets, without
from losses.ops.tiles.sizes import sizes


def dense_unlisted(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float | None, average: Average, swap: bool
) -> DenseSums:
    """Return the sums of :func:`losses.ops.dense.triplets.dense_triplets` without a list of the positive pairs. No
    value is read."""
    height, width = matrix.values.shape
    if margin is None or swap or height * width**2 <= sizes().cube_on_accelerator:
        return cube_of_triplets(matrix, positive, weight, margin=margin, average=average, swap=swap)
    return sorted_triplets(matrix, positive, weight, margin=margin, average=average)


def cube_of_triplets(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float | None, average: Average, swap: bool
) -> DenseSums:
    """Return them from the cube, some anchors at a time; what is no triplet is infinitely far below the margin."""
    near = matrix.values.masked_fill(positive == 0, -torch.inf)
    near = near if margin is None else near.add_(margin)
    rivals = matrix.values
    step = max(1, sizes().temporary_on_accelerator // max(1, rivals.shape[1] ** 2))
    if step < len(rivals):  # many: differences have the digits of the points
        near, rivals = near.float(), rivals.clamp(max=beyond(torch.float32)).float()
    rivals = without(rivals, positive.to(rivals.dtype))
    counts_all = average != "active" or margin is None
    costs, active, gradients, of_between = [], [], [], []
    for start in range(0, len(near), step):
        rows = slice(start, start + step)
        far = rivals[rows].unsqueeze(1)
        nearer = rivals < far if swap else None  # the positive, than the anchor
        if swap:
            far = torch.minimum(far, rivals)
        difference = near[rows].unsqueeze(2) - far
        cost, slopes = cost_and_slopes(difference, margin, None if weight is None else weight[rows].unsqueeze(2))
        of_near = slopes.sum(2)
        costs.append(cost)
        if not counts_all:
            active.append(of_near.sum())
        if nearer is not None:
            moved = slopes * nearer
            slopes.sub_(moved)
            of_between.append(moved.sum(0))
        gradients.append(of_near.sub_(slopes.sum(1)))
    number = number_of_triplets(matrix, positive, weight) if counts_all else added_up(active)
    sums = DenseSums(added_up(costs), number)
    if not matrix.differentiable:
        return sums
    gradient = gradients[0] if len(gradients) == 1 else torch.cat(gradients)
    for part in of_between:
        gradient.sub_(part)
    return sums._replace(slopes=gradient)


def sorted_triplets(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float, average: Average
) -> DenseSums:
    """Return them for a hinge, in time that grows with N^2 log N.

    The cost of an anchor is the sum over p and n of max(0, d_ap + margin - d_an). Where all d_ap + margin and all d_an
    stand in order, the derivative by one of the first is how many of the second stand before it, and by one of the
    second minus how many of the first stand behind it; the cost is the sum of all times their derivatives.
    """
    values = matrix.values
    height, width = values.shape
    slopes = torch.empty_like(values)
    integer = torch.int64 if values.dtype is torch.float64 else torch.int32  # as large
    positives = positive.sum(1, keepdim=True).to(integer)
    costs, active = [], []
    step = max(1, sizes().sorted_on_accelerator // max(1, width))
    number = torch.arange(1, width + 1, device=values.device, dtype=integer)
    for start in range(0, height, step):
        rows = slice(start, start + step)
        # the anchor itself, infinitely far away, is the last; infinity times a slope of 0 were NaN
        compared = torch.add(values[rows], positive[rows], alpha=margin).clamp_(0, torch.finfo(values.dtype).max)
        keys, order = keys_of(compared.view(integer), positive[rows].to(integer)).sort(1)
        is_negative = keys.bitwise_and_(1)
        before = is_negative.cumsum(1, dtype=integer)  # negatives, itself among them
        # minus the positives behind, of which there are all less those before
        of_sorted = before.addcmul_(is_negative, (number - positives[rows]).sub_(before, alpha=2))
        slope = slopes[rows].scatter_(1, order, of_sorted.to(values.dtype))
        if weight is not None:
            slope.mul_(weight[rows])
        costs.append(compared.mul_(slope).sum(dtype=torch.float64))
        if average == "active":
            active.append(slope.clamp(min=0).sum(dtype=torch.float64))
    counted = number_of_triplets(matrix, positive, weight) if average != "active" else added_up(active)
    return DenseSums(added_up(costs), counted, slopes if matrix.differentiable else None)


def keys_of(bits: Tensor, positive: Tensor) -> Tensor:
    """Return what sorts floating-point numbers of at least 0 as they are, and positives first among equals: their bits,
    whose order is the same, of which the last tells negatives, 1, from positives, 0."""
    return bits.bitwise_or(1).bitwise_xor_(positive)


def added_up(parts: list[Tensor]) -> Tensor:
    """Return the sum of some numbers ``()``."""
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
