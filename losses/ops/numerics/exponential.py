"""Exponentials whose value and derivative stay within the range of a dtype, whatever the exponent."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.compiler import is_exporting

STEEPEST = 0.8
"""Fraction of the exponent range of a dtype above which exp goes on as its tangent."""


def largest_exponent(*dtypes: torch.dtype) -> float:
    """Return up to where exp is itself, for gradients that have to fit into each of these dtypes."""
    return STEEPEST * math.log(min(torch.finfo(dtype).max for dtype in dtypes))


def exp_and_tangent(exponent: Tensor, largest: float) -> Tensor:
    """Return the exponential, which above ``largest`` goes on along its tangent."""
    below = exponent.clamp(max=largest)
    return below.exp() * (1 + exponent - below)


def log_factorial(count: Tensor) -> Tensor:
    """Return log(count!), of numbers between too."""
    return stirling(count + 1) if is_exporting() else (count + 1).lgamma()


def stirling(number: Tensor) -> Tensor:
    """Return log Gamma of positive numbers by Stirling's series, moved to where it is exact to 1e-9: ONNX has no
    operation for it."""
    moved = number + 7
    inverse = 1 / moved
    series = inverse * (1 / 12 - inverse.square() * (1 / 360 - inverse.square() / 1260))
    steps = torch.stack([(number + step).log() for step in range(7)]).sum(0)
    return (moved - 0.5) * moved.log() - moved + math.log(2 * math.pi) / 2 + series - steps
