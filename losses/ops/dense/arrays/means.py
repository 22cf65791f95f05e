"""Means over small batches in NumPy, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from losses.core.labelled import LabelledBatch
from losses.core.precision import COMPUTED_IN
from losses.ops.dense.arrays.angles import Angles
from losses.ops.dense.arrays.distances import Distances
from losses.ops.dense.arrays.log_sums import Found
from losses.ops.dense.arrays.positives import Positives
from losses.ops.eager import on_cpu, tangents_may_exist
from losses.ops.elementwise.arrays import WITHOUT_LOGIC, Array, apply_written, array
from losses.ops.tiles.sizes import sizes

ArrayMean = Callable[..., Found | None]
"""From what is compared, and who is whose positive, to the mean and its derivative by what is compared; ``None`` where
it has to be made otherwise."""


def suits_dense_arrays(*points: Tensor) -> bool:
    """Return whether NumPy may compute a mean of points that are few, and on a CPU, where nobody looks: with a gradient
    by all of them."""
    if tangents_may_exist() or not torch.is_grad_enabled():
        return False
    if points[0].shape[0] * points[-1].shape[0] > sizes().dense_in_arrays:
        return False
    dtype = points[0].dtype
    if dtype not in COMPUTED_IN:
        return False
    return all(part.requires_grad and part.dtype is dtype and type(part) in WITHOUT_LOGIC for part in points)


def batch_mean(
    function: ArrayMean,
    definition: Callable[..., Tensor],
    batch: LabelledBatch,
    measure: str,
    difference: float | None = None,
) -> Tensor | None:
    """Return the mean of a small labelled batch, or ``None``.

    Args:
        function: what makes it.
        definition: the same of embeddings as a plain composition.
        batch: embeddings and labels.
        measure: ``"similarity"`` or ``"euclidean"``.
        difference: of two distances that still counts; none if they are not subtracted from each other.
    """
    points = batch.anchors
    if batch.has_reference or not suits_dense_arrays(points) or type(batch.labels) not in WITHOUT_LOGIC:
        return None
    if not on_cpu(batch.labels):
        return None
    compared = Angles.of(points) if measure == "similarity" else Distances.of(points, difference)
    if compared is None:
        return None
    found = function(compared, Positives(array(batch.labels)))
    return found and written(found, compared.gradients, definition, points)


def written(
    found: Found, gradients: Callable[[Array], Sequence[Tensor]], definition: Callable[..., Tensor], *points: Tensor
) -> Tensor | None:
    """Return a mean as a function of the points; ``None`` where it is not finite."""
    value, slopes = found
    if not math.isfinite(value):
        return None
    made: Tensor = apply_written(value, definition, gradients(slopes), *points)
    return made


def matches_mean(
    function: Callable[[Angles], Found | None],
    definition: Callable[..., Tensor],
    first: Tensor,
    second: Tensor,
    *,
    stacked: bool,
) -> Tensor | None:
    """Return the mean of small sets ``(N, D)`` whose rows match, compared with one another, or ``stacked`` on top of
    each other with all; or ``None``."""
    if not suits_dense_arrays(first, second):
        return None
    angles = Angles.of(first, second, stacked=stacked)
    found = None if angles is None else function(angles)
    if angles is None or found is None:
        return None
    return written(found, angles.gradients, definition, first, second)
