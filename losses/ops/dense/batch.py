"""Losses over all pairs of a small labelled batch, in one piece."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.labelled import LabelledBatch
from losses.core.precision import matched
from losses.core.reduction import Total
from losses.ops.dense.arrays.means import ArrayMean, batch_mean
from losses.ops.dense.compared import Compared
from losses.ops.dense.differentiable import DenseSums, differentiable
from losses.ops.dense.matrix import DenseMatrix, is_small
from losses.ops.dense.one_by_one import DistancesOneByOne, PairDistances
from losses.ops.dense.triplets import ListedPositives
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised


class Dense(NamedTuple):
    """How a small labelled batch is summed in one piece.

    Args:
        function: from a matrix, who is whose positive, 1 or 0 ``(N, M)`` (all others but the point itself are
            negatives), and a weight per row ``(N, 1)``, or none, to sums.
        precise: the matrix is in float64 whatever its size, for choices that rounding must not make.
        of_pairs: it looks at every pair by itself, both ways alike, so that a list of them does, with who is positive
            and a weight of each ``(P,)``.
        difference: of two distances that still counts; none if they are not subtracted from each other.
        of_triplets: every positive pair is looked at beside all others of its anchor, which is done for few of them;
            the function is given the ``pairs``.
        in_arrays: the same plain mean in NumPy, for batches on a CPU; see :mod:`losses.ops.dense.arrays.means`.
    """

    function: Callable[..., DenseSums]
    precise: bool = False
    of_pairs: bool = False
    difference: float | None = None
    of_triplets: bool = False
    in_arrays: ArrayMean | None = None


def dense_mean(
    dense: Dense, definition: Callable[[LabelledBatch], Total], batch: LabelledBatch, measure: str
) -> Tensor | None:
    """Return the mean of a batch without weights, differentiable; ``None`` where it has to be made otherwise.

    Args:
        dense: how.
        definition: the total as a plain composition.
        batch: embeddings and labels.
        measure: see :class:`losses.ops.dense.matrix.DenseMatrix`.
    """
    if not is_small(batch.anchors, batch.others, measure):
        return None

    def of_points(*points: Tensor) -> Tensor:
        return definition(moved(batch, *points)).mean()

    if dense.in_arrays is not None and measure in ("similarity", "euclidean") and on_cpu(batch.anchors):
        mean = batch_mean(dense.in_arrays, of_points, batch, measure, dense.difference)
        if mean is not None:
            return mean
    made = compared_and_summed(dense, batch, measure)
    if made is None:
        return None
    return differentiable(*made, of_points, batch.anchors, batch.others if batch.has_reference else None, mean=True)


def dense_total(
    dense: Dense,
    definition: Callable[[LabelledBatch], Total],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None,
) -> Total | None:
    """Return the total of a batch likewise, with a weight of every anchor ``(N,)`` or none."""
    if not is_small(batch.anchors, batch.others, measure):
        return None
    relative, greatest = normalised(weight)
    made = compared_and_summed(dense, batch, measure, relative)
    if made is None:
        return None

    def of_points(*points: Tensor) -> Tensor:
        return definition(moved(batch, *points)).sum / greatest

    sums = differentiable(*made, of_points, batch.anchors, batch.others if batch.has_reference else None)
    denominators = made[1].denominators
    if weight is None and not isinstance(denominators, Tensor | tuple):
        return Total(sums, round(denominators))
    if not isinstance(denominators, Tensor):
        denominators = torch.tensor(denominators, dtype=torch.float64, device=sums.device)
    if weight is None:
        return Total(sums, denominators.long())
    return Total(sums * greatest, (denominators * greatest).to(sums.dtype))


def compared_and_summed(
    dense: Dense, batch: LabelledBatch, measure: str, weight: Tensor | None = None
) -> tuple[Compared, DenseSums] | None:
    """Return a small batch, whose points can be told apart, as it is compared, and what is summed over it."""
    pairs = None
    looks_at_all = dense.of_pairs or (dense.of_triplets and not dense.precise)  # a choice could be one of rounding
    if looks_at_all and measure == "euclidean" and not batch.has_reference and on_cpu(batch.anchors):
        pairs = PairDistances.of(batch.anchors, dense.difference)
    if pairs is not None and dense.of_pairs:
        positive = ones_where_equal(*pairs.of_ends(batch.labels), torch.empty_like(pairs.values))
        of_pairs = None if weight is None else torch.stack(pairs.of_ends(weight)).mean(0)
        return pairs, dense.function(pairs, positive, of_pairs)
    positive = batch.anchors.new_empty(len(batch.anchors), len(batch.others))
    positive = ones_where_equal(batch.labels.unsqueeze(1), batch.other_labels, positive)
    if not batch.has_reference:
        positive.fill_diagonal_(0)
    function = listed(dense.function, positive) if dense.of_triplets else dense.function
    if function is None:
        return None
    matrix = matrix_of(dense, batch, measure) if pairs is None else DistancesOneByOne(pairs)
    if matrix is None:
        return None
    each = None if weight is None else weight.to(matrix.dtype).unsqueeze(1)
    return matrix, function(matrix, matched(positive, matrix.values), each)


def matrix_of(dense: Dense, batch: LabelledBatch, measure: str) -> DenseMatrix | None:
    """Return the matrix of a batch by a product; ``None`` where that does not tell its points apart."""
    second = batch.others if batch.has_reference else None
    matrix = DenseMatrix(batch.anchors, second, measure, precise=dense.precise)
    return matrix if matrix.is_told else None


def ones_where_equal(labels: Tensor, others: Tensor, values: Tensor) -> Tensor:
    """Write 1 where labels are the same and 0 elsewhere into a tensor, and return it: to calculate with them is several
    times faster than to mask."""
    torch.eq(labels, others, out=values)
    return values


def listed(function: Callable[..., DenseSums], positive: Tensor) -> Callable[..., DenseSums] | None:
    """Return a function of triplets with the list of the positive pairs of a batch; ``None`` where they are many."""
    pairs = ListedPositives.of(positive)
    return partial(function, pairs=pairs) if len(pairs.place) * positive.shape[1] <= sizes().triplets else None


def moved(batch: LabelledBatch, first: Tensor, second: Tensor | None = None) -> LabelledBatch:
    """Return a batch with other embeddings."""
    return batch._replace(anchors=first, others=first if second is None else second)
