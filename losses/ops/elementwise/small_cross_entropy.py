"""Cross-entropies of batches that are too small for blocks, in few operations.

Autograd differentiates them, as it does the definition that they equal. What that does for impossible classes these
leave out: where it is needed the sum is not finite, and ``None`` is returned in place of it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.reduction import Total, expanded
from losses.core.torch_private import may_read
from losses.ops.eager import tangents_may_exist
from losses.ops.elementwise.arrays import HUGE, TINY, array, is_array, whole
from losses.ops.elementwise.cross_entropy import Options
from losses.ops.numerics.nll import can_divide, nll, nll_mean, nll_mean_and_count
from losses.ops.numerics.softmax import are_narrow, inner_product, log_softmax, log_softmax_product


def are_logits_of_indices(logits: Tensor, target: Tensor) -> bool:
    """Return whether logits and class indices are as accepted ones are, and at least one."""
    dtype = logits.dtype
    if logits.ndim < 2 or not logits.numel() or not dtype.is_floating_point or dtype.itemsize < 4:
        return False
    return target.dtype is torch.int64 and target.shape == (logits.shape[0], *logits.shape[2:])


def mean_of_few_indices(
    logits: Tensor, target: Tensor, weight: object, ignore_index: int, class_weight: Tensor | None
) -> Tensor | None:
    """Return the mean cross-entropy of a few logits ``(N, C, ...)`` that may be read; ``None`` where it is of nothing,
    not finite, or one with weights of positions and of classes.

    Args:
        logits: at least one.
        target: class indices ``(N, ...)``.
        weight: of every position, in any shape; only that of the target is known here.
        ignore_index: target of positions that do not count.
        class_weight: of every class.
    """
    relative = None
    if weight is not None:
        if class_weight is not None:
            return None
        relative = relative_positions(weight, target, logits.dtype, ignore_index, logits.shape[1])
        if relative is None:
            return None
    narrow = logits.ndim == 2 and are_narrow(logits)
    log_probs = logits.t().log_softmax(0).t() if narrow else logits.log_softmax(1)
    if relative is not None:
        mean = inner_product(nll(log_probs, target, None, "none", ignore_index), relative)
    elif class_weight is None:
        mean = nll(log_probs, target, None, "mean", ignore_index)
    else:
        return nll_mean(log_probs, target, ignore_index, class_weight)
    return mean if math.isfinite(mean.item()) else None


def relative_positions(
    weight: object, target: Tensor, dtype: torch.dtype, ignore_index: int | None, classes: int
) -> Tensor | None:
    """Return weights of all positions over the sum of those that are not ignored; ``None`` where that cannot be divided
    by, they are of another shape, or a target is no class: what has weight 0 may be none."""
    if weight.__class__ is not Tensor or weight.shape != target.shape or tangents_may_exist():
        return None
    if not (is_array(weight, dtype) and is_array(target, torch.int64)):
        return None
    weights, index = array(weight), array(target)
    counts = index != ignore_index if ignore_index is not None else None
    if counts is None or counts.all():
        total = whole(weights)
    else:
        index, total = index[counts], whole(weights[counts])
    if not (index.size and np.maximum.reduce(index.view(np.uint64), axis=None) < classes):  # as which -1 is large
        return None
    return torch.from_numpy(weights / total) if TINY <= total <= HUGE else None


def small_mean(logits: Tensor, target: Tensor, ignore_index: int, options: Options) -> Tensor | None:
    """Return the mean of a cross-entropy with smoothing or a z-loss, where classes are alike and nothing is ignored,
    else by its :func:`small_total`."""
    mean = None
    if options.class_weight is None and not target.dtype.is_floating_point and may_read(logits):
        mean = mean_of_indices(logits, target, ignore_index, options)
    if mean is None:
        total = small_total(logits, target, None, ignore_index, options, mean=True)
        mean = None if total is None else total.sum
    return mean


def mean_of_indices(logits: Tensor, target: Tensor, ignore_index: int, options: Options) -> Tensor | None:
    number, log_probs = target.numel(), log_softmax(logits, 1)
    found = nll_mean_and_count(log_probs, target, ignore_index, None)
    if found is None or not number or float(found[1]) != number:
        return None
    mean = found[0]
    if options.label_smoothing:
        mean = torch.sub(mean * (1 - options.label_smoothing), log_probs.mean(), alpha=options.label_smoothing)
    if options.z_loss:
        mean = mean + squared_log_partition(logits, None) * (options.z_loss / number)
    return mean if math.isfinite(mean.item()) else None


def small_total(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, options: Options, *, mean: bool = False
) -> Total | None:
    """Return the total of a cross-entropy in any form; for the ``mean`` its sum is divided already."""
    if not may_read(logits) or not logits.numel():
        return None
    if is_differentiated(weight) or is_differentiated(options.class_weight):
        return None
    if weight is not None:
        weight = expanded(weight, logits.shape[:1] + logits.shape[2:])
    if target.dtype.is_floating_point:
        total = total_of_probabilities(logits, target, weight, options, mean=mean)
    else:
        total = total_of_indices(logits, target, weight, ignore_index, options, mean=mean)
    return total if total is not None and math.isfinite(total.sum.item()) else None


def total_of_probabilities(
    logits: Tensor, target: Tensor, weight: Tensor | None, options: Options, *, mean: bool
) -> Total | None:
    costs, (class_weight, label_smoothing, z_loss) = target, options
    denominator: Tensor | int = logits.numel() // logits.shape[1]
    divisor = denominator if mean else 1
    if weight is not None:
        denominator = weight.sum()
        if mean and not can_divide(denominator):
            return None
        weight, divisor = (weight / denominator if mean else weight), 1
        costs = costs * weight.unsqueeze(1)
    if label_smoothing:
        everywhere = label_smoothing / logits.shape[1]
        costs = costs * (1 - label_smoothing) + (everywhere if weight is None else weight.unsqueeze(1) * everywhere)
    if class_weight is not None:
        costs = costs * beside_classes(class_weight, logits)
    total = log_softmax_product(logits, 1, costs) * (-1 / divisor)
    if z_loss:
        total = total + squared_log_partition(logits, weight) * (z_loss / divisor)
    return Total(total, denominator)


def total_of_indices(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, options: Options, *, mean: bool
) -> Total | None:
    class_weight, label_smoothing, z_loss = options
    ignored = target == ignore_index
    weight = torch.ones_like(target, dtype=logits.dtype) if weight is None else weight
    weight = counted = weight.masked_fill(ignored, 0)
    if class_weight is not None:
        counted = weight * class_weight[target.masked_fill(ignored, 0)]
    denominator = counted.sum()
    if mean:
        if not can_divide(denominator):
            return None
        weight = weight / denominator
    log_probs = log_softmax(logits, 1)
    items = F.nll_loss(log_probs, target, class_weight, ignore_index=ignore_index, reduction="none")
    total = inner_product(items, weight)
    if label_smoothing:
        of_classes = log_probs if class_weight is None else log_probs * beside_classes(class_weight, logits)
        total = torch.sub(
            total * (1 - label_smoothing), inner_product(of_classes.mean(1), weight), alpha=label_smoothing
        )
    if z_loss:
        total = total + squared_log_partition(logits, counted / denominator if mean else counted) * z_loss
    return Total(total, denominator)


def squared_log_partition(logits: Tensor, counted: Tensor | None) -> Tensor:
    """Return the sum of the squared log-partitions of all positions, each as often as it is counted."""
    log_partition = logits.logsumexp(1)
    return inner_product(log_partition, log_partition if counted is None else log_partition * counted)


def beside_classes(class_weight: Tensor, logits: Tensor) -> Tensor:
    """Return the weights of classes as they are multiplied by logits ``(N, C, ...)``."""
    return class_weight.reshape(-1, *[1] * (logits.ndim - 2))


def is_differentiated(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.requires_grad
