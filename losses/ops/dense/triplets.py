"""The triplets of a small batch, formed one by one: every positive pair beside all negatives of its anchor."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.dense.compared import Compared
from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.distances import just_beyond
from losses.ops.numerics.log_space import softplus
from losses.ops.triplets.definitions import cost


class ListedPositives(NamedTuple):
    """Every anchor with every positive of it, in the order of the matrix.

    Args:
        place: in the flattened matrix ``(P,)``.
        anchor: row ``(P,)``.
    """

    place: Tensor
    anchor: Tensor

    @classmethod
    def of(cls, positive: Tensor) -> ListedPositives:
        """Return those of a matrix of ones and zeros."""
        place = positive.view(-1).nonzero().squeeze(1)
        return cls(place, place.div(positive.shape[1], rounding_mode="floor"))

    def of_each(self, rows: int) -> int:
        """Return how many positives each of so many anchors has; 0 if they have different numbers."""
        each, more = divmod(len(self.anchor), rows)
        return each if each and not more and torch.equal(self.anchor, repeated_rows(rows, each)) else 0

    def positives(self, width: int) -> Tensor:
        """Return the column of each in a matrix of so many ``(P,)``."""
        return self.place % width


@lru_cache(maxsize=16)
def repeated_rows(rows: int, times: int) -> Tensor:
    """Return so many rows, each so many times ``(P,)``."""
    return torch.arange(rows, device="cpu").repeat_interleave(times)


def dense_triplets(
    matrix: Compared,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float | None,
    average: Average,
    swap: bool,
    pairs: ListedPositives,
) -> DenseSums:
    """Return the sum over all triplets, and the number of those that still cost something or of all."""
    distances = matrix.values
    place, anchor = pairs
    rivals = without(distances, positive)
    if not swap and (each := pairs.of_each(len(rivals))):
        near = distances.take(place).view(len(rivals), each, 1)
        return triplets_of_like_anchors(matrix, positive, weight, near, rivals, place, margin=margin, average=average)
    far = rivals.index_select(0, anchor)
    if swap:
        other = pairs.positives(rivals.shape[1])
        of_positive = rivals.index_select(0, other)
        nearer = of_positive < far
        far = torch.minimum(far, of_positive)
    near = distances.take(place) if margin is None else distances.take(place) + matrix.number(margin)
    difference = torch.sub(near.unsqueeze(1), far, out=far)
    cost, slopes = cost_and_slopes(difference, margin, None if weight is None else weight[anchor])
    of_near = slopes.sum(1)
    counts_all = average != "active" or margin is None
    sums = DenseSums(cost, number_of_triplets(matrix, positive, weight) if counts_all else matrix.total(of_near))
    if not matrix.differentiable:
        return sums
    gradient = rivals.zero_()
    gradient.view(-1).index_copy_(0, place, of_near)
    if swap:
        moved = slopes * nearer
        gradient.index_add_(0, other, moved, alpha=-1)
        slopes -= moved
    return sums._replace(slopes=gradient.index_add_(0, anchor, slopes, alpha=-1))


def triplets_of_like_anchors(
    matrix: Compared,
    positive: Tensor,
    weight: Tensor | None,
    near: Tensor,
    rivals: Tensor,
    place: Tensor,
    *,
    margin: float | None,
    average: Average,
) -> DenseSums:
    """Return the same where every anchor has as many positives, so near ``(N, P, 1)``, beside all of which its rivals
    ``(N, M)`` stand: no row of these is copied, nor added to another."""
    near = near if margin is None else near + matrix.number(margin)
    cost, slopes = cost_and_slopes(near - rivals.unsqueeze(1), margin, None if weight is None else weight.unsqueeze(2))
    of_near = slopes.sum(2)
    counts_all = average != "active" or margin is None
    sums = DenseSums(cost, number_of_triplets(matrix, positive, weight) if counts_all else matrix.total(of_near))
    if not matrix.differentiable:
        return sums
    gradient = slopes.sum(1).neg_()  # which is 0 at the positives
    gradient.view(-1).index_copy_(0, place, of_near.view(-1))
    return sums._replace(slopes=gradient)


def cost_and_slopes(difference: Tensor, margin: float | None, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what all triplets cost, and the derivative by d_ap - d_an of each, from these differences, which are
    overwritten, and have the margin in them if there is one."""
    costs = softplus(difference) if margin is None else difference.relu_()
    total = (costs if weight is None else costs * weight).sum()
    slopes = difference.sigmoid_() if margin is None else difference.sign_()
    return total, slopes if weight is None else slopes.mul_(weight)


def without(distances: Tensor, positive: Tensor) -> Tensor:
    """Return distances to the negatives of every anchor; its positives are beyond all of them."""
    return torch.add(distances, positive, alpha=beyond(distances.dtype))


def beyond(dtype: torch.dtype) -> float:
    """Return a distance beyond all others, to which they can be added."""
    return torch.finfo(dtype).max / 2


def number_of_triplets(matrix: Compared, positive: Tensor, weight: Tensor | None) -> Tensor | float:
    """Return how many triplets there are, each as its anchor weighs."""
    positives = positive.sum(1, keepdim=True)
    triplets = positives * (positive.shape[1] - matrix.itself - positives)
    return matrix.total(triplets if weight is None else triplets * weight)


def dense_mined(
    matrix: DenseMatrix,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float | None,
    average: Average,
    swap: bool,
    pairs: ListedPositives | None = None,
) -> DenseSums:
    """Return the sum over the triplets that are mined, and the number of those that still cost something or of all:
    with ``pairs`` a semi-hard negative for each of them, else the hardest of each anchor."""
    distances = matrix.values
    if not matrix.reads:
        return mined_of_every_anchor(matrix, positive, weight, margin=margin, average=average, swap=swap)
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
        costs, slopes, counted = costs * of_pairs, slopes * of_pairs, matrix.total(of_pairs)
    if average == "active" and margin is not None:
        counted = matrix.total(slopes)
    sums = DenseSums(costs.sum(), counted)
    if not matrix.differentiable:
        return sums
    gradient = torch.zeros_like(distances)
    gradient.index_put_((anchor, other), slopes, accumulate=True)
    return sums._replace(slopes=gradient.index_put_((row, rival), -slopes, accumulate=True))


def mined_of_every_anchor(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float | None, average: Average, swap: bool
) -> DenseSums:
    """Return the same of the hardest, where nobody may look which anchors have both: without, the difference is
    below all that there are. No value is read."""
    rivals = without(matrix.values, positive)
    far, rival = rivals.min(1, keepdim=True)
    near, other = matrix.values.masked_fill(positive == 0, -torch.inf).max(1, keepdim=True)
    difference = near - far
    row = None  # of the distance to the rival, if not the anchor
    if swap:
        swapped = near - rivals[other.squeeze(1)].gather(1, rival)
        row = torch.where(swapped > difference, other, torch.arange(len(other), device=other.device).unsqueeze(1))
        difference = torch.maximum(difference, swapped)
    costs = cost(difference, margin)
    slopes = difference.sigmoid() if margin is None else costs.sign()
    counted = (
        slopes
        if average == "active" and margin is not None
        else (difference > -beyond(costs.dtype) / 2).to(costs.dtype)
    )
    if weight is not None:
        costs, slopes, counted = costs * weight, slopes * weight, counted * weight
    sums = DenseSums(costs.sum(), counted.sum())
    if not matrix.differentiable:
        return sums
    gradient = torch.zeros_like(matrix.values).scatter_add_(1, other, slopes)
    if row is None:
        return sums._replace(slopes=gradient.scatter_add_(1, rival, -slopes))
    return sums._replace(slopes=gradient.index_put_((row, rival), -slopes, accumulate=True))


def hardest(matrix: DenseMatrix, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return every anchor that has both, its farthest positive and its nearest negative, each ``(A,)``."""
    rivals = matrix.values.masked_fill(positive > 0, torch.inf)
    far, rival = rivals.min(1)
    near, other = matrix.values.masked_fill(positive == 0, -torch.inf).max(1)
    anchor = ((near > -torch.inf) & (far < torch.inf)).nonzero().squeeze(1)
    return anchor, other[anchor], rival[anchor]


def semi_hard(matrix: DenseMatrix, positive: Tensor, pairs: ListedPositives) -> tuple[Tensor, Tensor, Tensor]:
    """Return every anchor with a positive of it, and the nearest negative farther away than that, else the farthest
    negative, each ``(A,)``."""
    rivals = matrix.values.masked_fill(positive > 0, torch.inf)
    has_rival = (rivals.amin(1) < torch.inf)[pairs.anchor]
    anchor, other = (part[has_rival] for part in (pairs.anchor, pairs.positives(positive.shape[1])))
    near = matrix.values[anchor, other].unsqueeze(1)
    beyond = just_beyond(near, matrix.squares()[anchor], matrix.first.shape[1], matrix.measure)
    nearest, rival = torch.threshold(rivals[anchor] - beyond, 0, torch.inf).min(1)
    farthest = rivals.masked_fill(rivals == torch.inf, -torch.inf).argmax(1)
    return anchor, other, torch.where(nearest < torch.inf, rival, farthest[anchor])
