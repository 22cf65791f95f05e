"""Mean distances between few samples on a line, in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from losses.core.reduction import require_weight_fits
from losses.ops.elementwise.arrays import (
    IGNORING_OVERFLOW,
    Array,
    array,
    differentiable,
    relative_weights,
    suits_arrays,
    sum_of,
)


def mean_of_few_distances(
    definition: Callable[[Tensor], Tensor], first: Tensor, second: Tensor, weight: Tensor | None
) -> Tensor | None:
    """Return the mean of how far the points of rows ``(..., N)`` are moved, from one in order to the other in order,
    differentiable by the first; ``None`` where they are many, or it is not finite.

    Args:
        definition: from the first to the same mean, as a plain composition.
        first, second: of one shape.
        weight: one for each row or leading index, or none.
    """
    if not suits_arrays(first, second, weight) or first.shape != second.shape:
        return None
    factors: Array | float = 1 / first.numel()
    if weight is not None:
        size = first.shape[-1]
        require_weight_fits(weight, first.shape[:-1])
        relative = relative_weights(weight, first.numel() // size, first.ndim - weight.ndim)
        if relative is None:
            return None
        factors = relative / size
    return differentiable(*computed(array(first), array(second), factors), definition, first)


@IGNORING_OVERFLOW
def computed(first: Array, second: Array, factors: Array | float) -> tuple[float, Array]:
    """Return the sum of the moves times factors, and its derivatives by the first points."""
    places = np.argsort(first, axis=-1).reshape(-1, first.shape[-1])
    places += np.arange(0, first.size, first.shape[-1])[:, np.newaxis]
    moved = first.reshape(-1)[places].reshape(first.shape)
    moved -= np.sort(second, axis=-1)
    slopes = np.empty(first.size, first.dtype)
    slopes[places] = (np.sign(moved) * factors).reshape(places.shape)
    return sum_of(np.abs(moved, out=moved), factors), slopes.reshape(first.shape)
