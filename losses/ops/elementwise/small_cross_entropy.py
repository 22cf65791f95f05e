"""Sums over rows of scores that are too few for blocks, in few operations of torch's own.

Autograd differentiates them, as it does the definitions that they equal. What those do for impossible classes and
outcomes these leave out: where it is needed the sum is not finite, and ``None`` is returned in place of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.reduction import Total, expanded
from losses.ops.elementwise.cross_entropy import Options
from losses.ops.numerics.nll import MEAN, nll, nll_costs
from losses.ops.numerics.softmax import inner_product, log_softmax, log_softmax_product


class Costs(NamedTuple):
    """What a cross-entropy multiplies log-probabilities by: it is linear in them."""

    of_classes: Tensor
    """In the shape of the logits ``(N, C, ...)``."""
    counted: Tensor | None
    """The weight of every position ``(N, ...)`` in the denominator; ``None`` is 1 for each."""
    denominator: Tensor | int


def small_mean_of_indices(logits: Tensor, target: Tensor, ignore_index: int, options: Options) -> Tensor | None:
    """Return the mean of a cross-entropy with class indices, where classes are alike and nothing is ignored."""
    log_probs = log_softmax(logits, 1)
    found = nll(log_probs, target, ignore_index, None, MEAN)
    if found is None or not target.numel() or float(found[1]) != target.numel():
        return None
    mean = found[0]
    if options.label_smoothing:
        mean = torch.sub(mean * (1 - options.label_smoothing), log_probs.mean(), alpha=options.label_smoothing)
    if options.z_loss:
        mean = mean + squared_log_partition(logits, None) * (options.z_loss / target.numel())
    return mean if math.isfinite(mean.item()) else None


def small_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, options: Options, *, mean: bool = False
) -> Total | None:
    """Return the total of a cross-entropy in any form; for the ``mean`` its sum is divided already."""
    if not logits.numel() or is_differentiated(weight) or is_differentiated(options.class_weight):
        return None
    if weight is not None:
        weight = expanded(weight, logits.shape[:1] + logits.shape[2:])
    costs: Costs | None
    if target.dtype.is_floating_point:
        costs = costs_of_probabilities(logits, target, weight, options)
    else:
        costs = costs_of_indices(logits, target, weight, ignore_index, options)
    if costs is None:
        return None
    divisor = float(costs.denominator) if mean else 1.0
    if divisor < torch.finfo(logits.dtype).tiny:
        return None
    total = log_softmax_product(logits, 1, costs.of_classes * (-1 / divisor))
    if options.z_loss:
        total = total + squared_log_partition(logits, costs.counted) * (options.z_loss / divisor)
    return Total(total, costs.denominator) if math.isfinite(total.item()) else None


def costs_of_probabilities(logits: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Costs:
    costs, (class_weight, label_smoothing, _) = target, options
    if label_smoothing:
        costs = costs * (1 - label_smoothing) + label_smoothing / logits.shape[1]
    if class_weight is not None:
        costs = costs * beside_classes(class_weight, logits)
    if weight is None:
        return Costs(costs, None, logits.numel() // logits.shape[1])
    return Costs(costs * weight.unsqueeze(1), weight, weight.sum())


def costs_of_indices(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, options: Options
) -> Costs | None:
    class_weight, label_smoothing, z_loss = options
    by_position = torch.ones_like(target, dtype=logits.dtype) if weight is None else weight
    costs = nll_costs(by_position, logits, target, ignore_index, class_weight)
    if costs is None:
        return None
    denominator, counted = costs.sum(), costs.sum(1) if z_loss else None
    if label_smoothing:
        anywhere = by_position.masked_fill(target == ignore_index, 0).unsqueeze(1) * (label_smoothing / logits.shape[1])
        if class_weight is not None:
            anywhere = anywhere * beside_classes(class_weight, logits)
        costs = costs * (1 - label_smoothing) + anywhere
    return Costs(costs, counted, denominator)


def squared_log_partition(logits: Tensor, counted: Tensor | None) -> Tensor:
    """Return the sum of the squared log-partitions of all positions, each as often as it is counted."""
    log_partition = logits.logsumexp(1)
    return inner_product(log_partition, log_partition if counted is None else log_partition * counted)


def beside_classes(class_weight: Tensor, logits: Tensor) -> Tensor:
    """Return the weights of classes as they are multiplied by logits ``(N, C, ...)``."""
    return class_weight.reshape(-1, *[1] * (logits.ndim - 2))


def is_differentiated(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.requires_grad
