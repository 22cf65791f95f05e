"""In which precision things are computed, added up and kept: nothing else in the package decides on a dtype.

Losses compute in float32 at least and add up in float64, which not every device has.
"""

from __future__ import annotations

import torch
from torch import Tensor

BUFFER_DTYPE = torch.get_default_dtype() if torch.backends.mps.is_available() else torch.float64
"""Dtype of buffers made from lists: what was written, for losses in float64 too; Apple's GPUs have no float64."""


def widened(tensor: Tensor) -> Tensor:
    """Return half precision (and narrower) as float32; the cast is differentiable, so gradients keep the caller's
    dtype."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def matched(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the dtype of another."""
    return tensor if tensor.dtype is like.dtype else tensor.to(like.dtype)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to add up in: float64, except where the device has none."""
    return widened(tensor).dtype if tensor.device.type == "mps" else torch.float64


def accumulated(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision to add up in."""
    return tensor.to(accumulation_dtype(tensor))
