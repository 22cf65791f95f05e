"""Value and derivative of an element in NumPy, and means over few elements by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from losses.core.reduction import require_weight_fits, total_of
from losses.ops.elementwise.arrays import (
    IGNORING_OVERFLOW,
    Array,
    array,
    differentiable,
    log1p,
    relative_weights,
    sum_of,
)
from losses.ops.elementwise.formulas import LINEAR_BEYOND
from losses.ops.numerics.exponential import largest_exponent

Definition = Callable[[Tensor, Tensor], Tensor]
LARGEST = {np.dtype(name): largest_exponent(getattr(torch, name)) for name in ("float32", "float64")}
"""Up to where exp is itself, and its tangent above."""
ArrayFormula = Callable[[Array, Array], tuple[Array, Array]]
"""From output and target to the values and their derivatives by the output, which the caller may write to."""


def log_cosh(output: Array, target: Array) -> tuple[Array, Array]:
    """As :func:`losses.ops.elementwise.formulas.log_cosh_values_and_slopes` does it."""
    residual = output - target
    slopes = np.tanh(residual)
    sizes = np.abs(residual)
    clipped = np.minimum(sizes, LINEAR_BEYOND)
    powers = np.exp(clipped)
    doubled = powers + 1 / powers
    doubled *= slopes
    doubled *= doubled
    doubled *= 0.25
    values = log1p(doubled)
    values *= 0.5
    sizes -= clipped
    values += sizes
    return values, slopes


def pinball(output: Array, target: Array, *, quantile: float | Array) -> tuple[Array, Array]:
    residual = output - target
    slopes = np.sign(residual)
    slopes *= 0.5
    slopes += 0.5 - quantile
    residual *= slopes
    return residual, slopes


def poisson(output: Array, target: Array) -> tuple[Array, Array]:
    below = np.minimum(output, LARGEST[output.dtype])
    rates = np.exp(below)
    slopes = rates - target
    rates += rates * (output - below)  # exp and, above, its tangent
    rates -= output * target
    return rates, slopes


def mean_of_few_elements(
    formula: ArrayFormula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor | None:
    """Return sum(w l) / sum(w) of elements that :func:`suits_arrays`, differentiable by the output; ``None`` where it
    is not finite, perhaps by what has weight 0, or the weights cannot be divided by.

    Args:
        formula: value and derivative of an element.
        definition: the items as a plain composition.
        output: of any shape.
        target: of the same.
        weight: one per element or per leading index.
    """
    found = computed(formula, output, target, weight)
    return found and differentiable(*found, lambda output: total_of(definition(output, target), weight).mean(), output)


@IGNORING_OVERFLOW
def computed(
    formula: ArrayFormula, output: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[float, Array] | None:
    """Return the mean and its derivatives, or ``None``."""
    factors: Array | float | None = 1 / output.numel()
    if weight is not None:
        require_weight_fits(weight, output.shape)
        factors = relative_weights(weight, output.numel(), output.ndim - weight.ndim)
    if factors is None:
        return None
    values, slopes = formula(array(output), array(target))
    slopes *= factors
    return sum_of(values, factors), slopes
