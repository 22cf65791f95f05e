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
from losses.ops.dense.differentiable import DenseSums, differentiable
from losses.ops.dense.matrix import DenseMatrix, ListedPositives, is_small
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised


class Dense(NamedTuple):
    """How a small labelled batch is summed in one piece.

    Args:
        function: from a matrix, who is whose positive, 1 or 0 ``(N, M)`` (all others but the point itself are
            negatives), and a weight per row ``(N, 1)``, or none, to sums.
        precise: the matrix is in float64 whatever its size, for choices that rounding must not make.
        of_triplets: every positive pair is looked at beside all others of its anchor, which is done for few of them;
            the function is given the ``pairs``, or ``None`` for all there could be where nobody may look who they are.
    """

    function: Callable[..., DenseSums]
    precise: bool = False
    of_triplets: bool = False


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
    made = matrix_and_sums(dense, batch, measure)
    if made is None:
        return None

    def of_points(*points: Tensor) -> Tensor:
        return definition(moved(batch, *points)).mean()

    return differentiable(*made, of_points, batch.anchors, batch.others if batch.has_reference else None, mean=True)


def dense_total(
    dense: Dense,
    definition: Callable[[LabelledBatch], Total],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None,
) -> Total | None:
    """Return the total of a batch likewise, with a weight of every anchor ``(N,)`` or none."""
    relative, greatest = normalised(weight)
    made = matrix_and_sums(dense, batch, measure, relative)
    if made is None:
        return None

    def of_points(*points: Tensor) -> Tensor:
        return definition(moved(batch, *points)).sum / greatest

    sums = differentiable(*made, of_points, batch.anchors, batch.others if batch.has_reference else None)
    denominators = made[1].denominators
    if isinstance(denominators, tuple):
        denominators = torch.tensor(denominators, dtype=torch.float64)
    if not isinstance(denominators, Tensor):
        return Total(sums, round(denominators))
    return (
        Total(sums, denominators.long())
        if weight is None
        else Total(sums * greatest, (denominators * greatest).to(sums.dtype))
    )


def matrix_and_sums(
    dense: Dense, batch: LabelledBatch, measure: str, weight: Tensor | None = None
) -> tuple[DenseMatrix, DenseSums] | None:
    """Return the matrix of a small batch whose points can be told apart, and what is summed over it."""
    if not is_small(batch.anchors, batch.others, measure):
        return None
    if dense.of_triplets and not on_cpu(batch.anchors) and cube_of(batch) > sizes().cube_on_accelerator:
        return None
    second = batch.others if batch.has_reference else None
    # 1 or 0: to calculate with them is several times faster than to mask
    positive = batch.anchors.new_empty(len(batch.anchors), len(batch.others))
    torch.eq(batch.labels.unsqueeze(1), batch.other_labels, out=positive)
    if second is None:
        positive.fill_diagonal_(0)
    function = dense.function
    if dense.of_triplets:
        pairs = ListedPositives.of(positive) if on_cpu(positive) else None
        if pairs is not None and len(pairs.place) * positive.shape[1] > sizes().triplets:
            return None
        function = partial(function, pairs=pairs)
    matrix = DenseMatrix(batch.anchors, second, measure, precise=dense.precise)
    if not matrix.is_told:
        return None
    positive = matched(positive, matrix.values)
    return matrix, function(matrix, positive, None if weight is None else weight.to(matrix.dtype).unsqueeze(1))


def cube_of(batch: LabelledBatch) -> int:
    """Return the number of anchors, positives and negatives that there could be."""
    return len(batch.anchors) * len(batch.others) ** 2


def moved(batch: LabelledBatch, first: Tensor, second: Tensor | None = None) -> LabelledBatch:
    """Return a batch with other embeddings."""
    return batch._replace(anchors=first, others=first if second is None else second)
