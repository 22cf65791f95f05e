"""In which precision things are computed, added up and kept: nothing else in the package decides on a dtype.

Losses compute in float32 at least and add up in float64, which not every device has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.torch_private import functions_can_be_applied

BUFFER_DTYPE = torch.get_default_dtype() if torch.backends.mps.is_available() else torch.float64
"""Dtype of buffers made from lists: what was written, for losses in float64 too; Apple's GPUs have no float64."""


COMPUTED_IN = (torch.float32, torch.float64)
"""Dtypes in which losses take tensors as they are."""


def widened(tensor: Tensor) -> Tensor:
    """Return half precision (and narrower) as float32; the cast is differentiable, so gradients keep the caller's
    dtype."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def widened_probabilities(probs: Tensor) -> Tensor:
    """Return probabilities :func:`widened`, with a gradient that their dtype can hold.

    A gradient of t / p leaves the range of the dtype where p is small enough, and as infinity it would make NaN of
    every gradient behind it. So it is held at the reciprocal of the smallest normal number, a quarter of the largest:
    there is room to add a few, and to differentiate once more. But only where it is the probability that makes it so
    large, one below the root of that number: elsewhere an overflow comes from above and stays one, so that whoever
    scales losses finds it.
    """
    wide = widened(probs)
    if not (probs.requires_grad and torch.is_grad_enabled()):
        return wide
    # no derivative by hand is known there: a slope is held, but not a multiple of it from above
    if is_compiling() or not functions_can_be_applied():
        if wide is probs:
            return wide  # whose logarithm holds it
        slope = (wide.detach() / torch.finfo(probs.dtype).tiny).clamp(max=1)
        return wide.detach() + (wide - wide.detach()) * slope
    held: Tensor = HeldGradient.apply(probs)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return held


class HeldGradient(torch.autograd.Function):
    """Widening whose derivative is held: :func:`widened_probabilities`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(probs: Tensor) -> Tensor:
        wide = widened(probs)
        return wide.clone() if wide is probs else wide

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (probs,) = ctx.saved_tensors
        smallest = torch.finfo(probs.dtype).tiny
        held = gradient.clamp(-1 / smallest, 1 / smallest)
        return torch.where(probs < smallest**0.5, held, gradient).to(probs.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return widened(tangent)


def matched(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the dtype of another."""
    return tensor if tensor.dtype is like.dtype else tensor.to(like.dtype)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to add up in: float64, except where the device has none."""
    return widened(tensor).dtype if tensor.device.type == "mps" else torch.float64


def accumulated(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision to add up in."""
    return tensor.to(accumulation_dtype(tensor))
