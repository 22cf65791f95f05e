"""Means of a function of the surprise over a few rows, in NumPy: as :mod:`losses.ops.elementwise.surprise` has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from losses.ops.elementwise.arrays import (
    IGNORING_OVERFLOW,
    Array,
    array,
    differentiable,
    is_array,
    suits_arrays,
    sum_of,
)
from losses.ops.elementwise.small_cross_entropy import relative_positions
from losses.ops.elementwise.surprise import Function
from losses.ops.numerics.softmax import are_narrow


def mean_of_few_surprises(
    function: Function,
    definition: Callable[[Tensor], Tensor],
    logits: Tensor,
    target: Tensor,
    weight: object,
    ignore_index: int,
    class_factors: Tensor | None = None,
) -> Tensor | None:
    """Return the mean over a few rows of logits ``(N, C)``, of which none is ignored, differentiable by them; ``None``
    where they are others, or it is not finite, perhaps by what has weight 0.

    Args:
        function: of the surprise, for a value and its derivative.
        definition: from logits to the same mean, as a plain composition.
        logits: of any shape.
        target: class indices, or probabilities, of which this knows nothing.
        weight: of every row, or none.
        ignore_index: target of rows that do not count.
        class_factors: what the value of a row of each class is multiplied by.
    """
    if logits.ndim != 2 or not suits_arrays(logits) or not is_array(target, torch.int64):
        return None
    if class_factors is not None and not is_array(class_factors, class_factors.dtype):
        return None
    index = array(target)
    within = np.maximum.reduce(index.view(np.uint64)) < logits.shape[1]  # as which a negative one is large
    if not within or (0 <= ignore_index < logits.shape[1] and (index == ignore_index).any()):
        return None
    factors: Array | float = 1 / len(index)
    if weight is not None:
        relative = relative_positions(weight, target, logits.dtype, None, logits.shape[1])
        if relative is None:
            return None
        factors = array(relative)
    if class_factors is not None:
        factors = array(class_factors.to(logits.dtype))[index] * factors
    return differentiable(*computed(function, logits.detach(), index, factors), definition, logits)


@IGNORING_OVERFLOW
def computed(function: Function, logits: Tensor, index: Array, factors: Array | float) -> tuple[float, Array]:
    """Return the sum of values times factors, and its derivatives by the logits."""
    rows, classes = logits.shape
    if columns := are_narrow(logits):  # rows are columns then
        log_probs, right = logits.t().log_softmax(0).contiguous(), np.arange(rows) + index * rows
    else:
        log_probs, right = logits.log_softmax(1).contiguous(), np.arange(0, rows * classes, classes) + index
    surprise = array(log_probs).reshape(-1)[right]
    values, slopes = map(array, function(torch.from_numpy(np.negative(surprise, out=surprise))))
    own = slopes * factors
    gradient = array(log_probs.exp_())
    gradient *= own if columns else own[:, np.newaxis]
    gradient.reshape(-1)[right] -= own
    return sum_of(values, factors), gradient.T if columns else gradient
