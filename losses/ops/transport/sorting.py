"""Rows in rising order: NumPy sorts on whole vectors, several times as fast as torch on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from losses.core.precision import COMPUTED_IN
from losses.ops.eager import may_read, tangents_may_exist
from losses.ops.elementwise.arrays import WITHOUT_LOGIC, array


def in_order(points: Tensor) -> Tensor:
    """Return points ``(..., N)`` in rising order along the last dimension, NaN last."""
    if not sorts_in_numpy(points):
        return points.sort(-1).values
    if points.requires_grad and torch.is_grad_enabled():
        return in_order_with_index(points)[0]
    return torch.from_numpy(np.sort(array(points), axis=-1))


def in_order_with_index(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return likewise, and at which place each was before."""
    if not sorts_in_numpy(points):
        return points.sort(-1)
    index = torch.from_numpy(np.argsort(array(points), axis=-1))
    return points.gather(-1, index), index


def sorts_in_numpy(points: Tensor) -> bool:
    """Return whether NumPy may look at points: on a CPU where nobody traces, transforms or differentiates forward."""
    if not may_read(points) or tangents_may_exist() or type(points) not in WITHOUT_LOGIC:
        return False
    return points.dtype in COMPUTED_IN and points.ndim > 0
