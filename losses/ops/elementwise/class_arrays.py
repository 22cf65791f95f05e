"""The mean cross-entropy of a few rows of logits against class indices in NumPy, with its derivative by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from losses.ops.elementwise.arrays import (
    IGNORING_OVERFLOW,
    TINY,
    Array,
    array,
    differentiable,
    is_array,
    relative_weights,
    suits_arrays,
    sum_of,
    whole,
)
from losses.ops.elementwise.cross_entropy import Options


def mean_of_few_classes(
    definition: Callable[[Tensor], Tensor],
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    options: Options,
) -> Tensor | None:
    """Return the mean of a cross-entropy with something added, differentiable by the logits; ``None`` if they are not
    few rows ``(N, C)``, or some are ignored. Without anything added torch's function is as fast.

    Args:
        definition: from logits to the same mean, as a plain composition.
        logits: of any shape.
        target: class indices, or probabilities, of which this knows nothing.
        weight: of every row.
        ignore_index: target of rows that do not count.
        options: what is added.
    """
    if not suits_arrays(logits, None, weight) or logits.ndim != 2 or not is_array(target, torch.int64):
        return None
    if not is_array(options.class_weight, logits.dtype) or (weight is not None and weight.ndim != 1):
        return None
    found = computed(logits, target, weight, ignore_index, options)
    return found and differentiable(*found, definition, logits)


@IGNORING_OVERFLOW
def computed(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, options: Options
) -> tuple[float, Array] | None:
    r"""Return the mean and its derivatives as :class:`losses.ops.elementwise.cross_entropy.IndexCrossEntropy` has them:
    :math:`\sum_c a_c (Z - z_c) + \zeta\, w_t Z^2` and :math:`(\sum_k a_k + 2 \zeta\, w_t Z)\, p_c - a_c`."""
    class_weight, label_smoothing, z_loss = options
    (rows, classes), index = logits.shape, array(target)
    if not np.maximum.reduce(index.view(np.uint64)) < classes:  # as which a negative one is large
        return None
    if 0 <= ignore_index < classes and (index == ignore_index).any():
        return None
    factors: Array | float | None = 1 / rows if weight is None else relative_weights(weight, rows, 0)
    if factors is None:
        return None
    costs = None if class_weight is None else array(class_weight)
    counted = factors if costs is None else costs[index] * factors
    if costs is not None:
        denominator = sum_of(costs[index], factors)
        if not denominator >= TINY:
            return None
        factors, counted = factors / denominator, counted / denominator
    scores = array(logits)
    largest = np.maximum.reduce(scores, axis=1, keepdims=True)
    scores = np.subtract(scores, largest, order="C")
    slopes = np.exp(scores)
    total = np.add.reduce(slopes, axis=1)
    log_total, right = np.log(total), np.arange(0, rows * classes, classes) + index
    own = counted * (1 - label_smoothing)
    mean, slope = sum_of(log_total - scores.reshape(-1)[right], own), own
    if label_smoothing:
        everywhere = factors * (label_smoothing / classes)
        of_classes = scores if costs is None else scores * costs
        of_all = classes if costs is None else whole(costs)
        mean += sum_of(log_total * of_all - np.add.reduce(of_classes, axis=1), everywhere)
        slope = slope + everywhere * of_all
    if z_loss:
        log_partition = log_total + largest[:, 0]
        penalty = log_partition * (z_loss * counted)
        mean += whole(penalty * log_partition)
        slope = slope + 2 * penalty
    slopes *= (slope / total)[:, None]
    if label_smoothing:
        beside = everywhere if isinstance(everywhere, float) else everywhere[:, None]
        slopes -= beside if costs is None else costs * beside
    slopes.reshape(-1)[right] -= own
    return mean, slopes
