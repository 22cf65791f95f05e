"""Losses over all pairs of a small labelled batch, in one piece."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from losses.core.labelled import LabelledBatch
from losses.core.reduction import Total
from losses.ops.dense.differentiable import DenseSums, over_matrix
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.tiles.whole_batch import normalised

DenseFunction = Callable[[DenseMatrix, Tensor, Tensor, Tensor | None], DenseSums | None]
"""From a matrix ``(N, M)``, who is whose positive and who whose negative ``(N, M)``, and a weight per row ``(N, 1)`` or
none; ``None`` where it has to be done otherwise."""


def dense_mean(
    function: DenseFunction, definition: Callable[[LabelledBatch], Total], batch: LabelledBatch, measure: str
) -> Tensor | None:
    """Return the mean of a batch without weights, differentiable; ``None`` where it has to be made otherwise.

    Args:
        function: sums, counts and derives.
        definition: the total as a plain composition.
        batch: embeddings and labels.
        measure: see :class:`losses.ops.dense.matrix.DenseMatrix`.
    """

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        return definition(moved(batch, first, second)).mean()

    second = batch.others if batch.has_reference else None
    result = over_matrix(of_labels(function, batch, None), of_points, batch.anchors, second, measure, mean=True)
    return None if result is None else result.sums


def dense_total(
    function: DenseFunction,
    definition: Callable[[LabelledBatch], Total],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None,
) -> Total | None:
    """Return the total of a batch likewise, with a weight of every anchor ``(N,)`` or none."""
    relative, greatest = normalised(weight)

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        return definition(moved(batch, first, second)).sum / greatest

    second = batch.others if batch.has_reference else None
    result = over_matrix(of_labels(function, batch, relative), of_points, batch.anchors, second, measure)
    if result is None:
        return None
    sums, denominators, _ = result
    if weight is None:
        return Total(sums, denominators if isinstance(denominators, int) else denominators.long())
    return Total(sums * greatest, (denominators * greatest).to(sums.dtype))


def of_labels(
    function: DenseFunction, batch: LabelledBatch, weight: Tensor | None
) -> Callable[[DenseMatrix], DenseSums | None]:
    """Return a dense function as one of the matrix alone, for the labels and weights ``(N,)`` of a batch."""

    def of_matrix(matrix: DenseMatrix) -> DenseSums | None:
        negative = batch.negative
        positive = matrix.at_itself(~negative, False)
        return function(matrix, positive, negative, None if weight is None else weight.double().unsqueeze(1))

    return of_matrix


def moved(batch: LabelledBatch, first: Tensor, second: Tensor | None) -> LabelledBatch:
    """Return a batch with other embeddings."""
    return batch._replace(anchors=first, others=first if second is None else second)
