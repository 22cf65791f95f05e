"""Means of divergences and entropies over few distributions in NumPy: value and derivative by hand.

Where an impossible outcome makes the mean infinite or NaN there is ``None`` in place of it: the definitions say then
what it counts as. What a distribution is multiplied by in the sum, its factor, is one number for all or a column of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from losses.core.parameters import DistributionForm
from losses.core.reduction import total_of
from losses.ops.elementwise.arrays import (
    IGNORING_OVERFLOW,
    TINY,
    Array,
    array,
    differentiable,
    relative_weights,
    suits_arrays,
    sum_of,
)
from losses.ops.tiles.sizes import sizes


class Target(NamedTuple):
    """What every distribution is compared with, ``(..., C)``."""

    probs: Array
    log_probs: Array
    """Where a probability is 0 any finite number, so that 0 log 0 is 0."""


Formula = Callable[..., tuple[float, Array]]
"""From an output, its form, the factors and, if there is one, the target: the sum over distributions, and its
derivatives by the output."""


def jensen_shannon(
    output: Array, form: DistributionForm, factors: Array | float, target: Target, *, mixture: float
) -> tuple[float, Array]:
    """As :class:`losses.ops.elementwise.small_divergence.JensenShannonSum` does it."""
    if form == "log_probs":
        log_probs, probs = output, np.exp(output)
    else:
        log_probs, probs, total = softmax(output)
        log_probs, probs = log_probs - np.log(total), probs / total
    middle = probs * (1 - mixture)
    middle += target.probs * mixture
    log_middle = np.log(middle)
    slopes = log_probs - log_middle
    slopes *= probs
    slopes *= 1 - mixture
    of_target = target.log_probs - log_middle
    of_target *= target.probs
    value = sum_of(slopes, factors) + mixture * sum_of(of_target, factors)
    if form == "logits":
        slopes -= probs * np.add.reduce(slopes, axis=-1, keepdims=True)
    return value, slopes * factors


def entropy(output: Array, form: DistributionForm, factors: Array | float) -> tuple[float, Array]:
    r"""With the scores' mean :math:`m = \sum_c p_c z_c` it is :math:`\log \sum_c e^{z_c} - m`, with derivative
    :math:`p_c (m - z_c)`."""
    if form == "log_probs":
        probs = np.exp(output)
        return -sum_of(probs * output, factors), (output + 1) * probs * -factors
    scores, probs, total = softmax(output)
    probs /= total
    mean = np.add.reduce(probs * scores, axis=-1, keepdims=True)
    return sum_of(np.log(total) - mean, factors), (mean - scores) * probs * factors


def mean_of_few_divergences(
    formula: Formula,
    items: Callable[[Tensor, Tensor], Tensor],
    output: Tensor,
    target: Tensor,
    weight: Tensor | None,
    forms: tuple[DistributionForm, DistributionForm],
) -> Tensor | None:
    """Return the mean over few distributions ``(..., C)``, differentiable by the output; else ``None``.

    Args:
        formula: value and derivative.
        items: the divergence of every distribution, as a plain composition.
        output, target: the distributions.
        weight: of every distribution, or one for each of their leading indices.
        forms: of both.
    """
    if forms[0] == "probs" or not suits_arrays(output, target, weight) or output.numel() >= sizes().rows_in_blocks:
        return None
    found = computed(formula, output, target, weight, forms)
    return found and differentiable(*found, lambda output: total_of(items(output, target), weight).mean(), output)


def mean_of_few_entropies(
    items: Callable[[Tensor], Tensor], output: Tensor, weight: Tensor | None, form: DistributionForm
) -> Tensor | None:
    """Return the mean entropy likewise."""
    if form == "probs" or not suits_arrays(output, weight) or output.numel() >= sizes().rows_in_blocks:
        return None
    found = computed(entropy, output, None, weight, (form, form))
    return found and differentiable(*found, lambda output: total_of(items(output), weight).mean(), output)


@IGNORING_OVERFLOW
def computed(
    formula: Formula,
    output: Tensor,
    target: Tensor | None,
    weight: Tensor | None,
    forms: tuple[DistributionForm, DistributionForm],
) -> tuple[float, Array] | None:
    """Return the mean and its derivatives; ``None`` where the weights cannot be divided by."""
    factors = factors_of(output, weight)
    if factors is None:
        return None
    targets = () if target is None else (target_of(array(target), forms[1]),)
    return formula(array(output), forms[0], factors, *targets)


def factors_of(output: Tensor, weight: Tensor | None) -> Array | float | None:
    """Return what every distribution is multiplied by in the mean; ``None`` where the weights cannot be divided by."""
    number = output.numel() // output.shape[-1]
    return 1 / number if weight is None else relative_weights(weight, number, output.ndim - weight.ndim)


def target_of(target: Array, form: DistributionForm) -> Target:
    if form == "probs":
        return Target(target, np.log(target + TINY))
    if form == "log_probs":
        return Target(np.exp(target), target)
    scores, exponentials, total = softmax(target)
    return Target(exponentials / total, scores - np.log(total))


def softmax(logits: Array) -> tuple[Array, Array, Array]:
    """Return logits less the largest of their row, their exponentials, and the sums of those ``(..., 1)``."""
    scores = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    exponentials = np.exp(scores)
    return scores, exponentials, np.add.reduce(exponentials, axis=-1, keepdims=True)
