"""Exponentials whose value and derivative stay within the range of a dtype, whatever the exponent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEEPEST = 0.8
"""Fraction of the exponent range of a dtype above which exp goes on as its tangent."""


def largest_exponent(*dtypes: torch.dtype) -> float:
    """Return up to where exp is itself, for gradients that have to fit into each of these dtypes."""
    return STEEPEST * math.log(min(torch.finfo(dtype).max for dtype in dtypes))


def exp_and_tangent(exponent: Tensor, largest: float) -> Tensor:
    """Return the exponential, which above ``largest`` goes on along its tangent."""
    below = exponent.clamp(max=largest)
    return below.exp() * (1 + exponent - below)
