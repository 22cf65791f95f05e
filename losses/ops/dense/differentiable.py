"""Sums and means over a dense matrix, differentiable: the gradient is known as soon as the value is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.precision import matched
from losses.ops.dense.compared import Compared
from losses.ops.derivatives import plain_gradients


class DenseSums(NamedTuple):
    """One or two sums over what is compared, what their means are divided by, and their derivative by it."""

    sums: Tensor | tuple[float, float]
    """``()``, or two numbers, or two that nobody has read ``(2,)``."""
    denominators: Tensor | float | tuple[float, float]
    """Likewise, or one number; items count as 1 each, or as their weight."""
    slopes: Tensor | None = None
    """``(N, M)``, 0 where a point meets itself; ``None`` where nothing is differentiated. Of two sums those of the
    first are positive, and those of the second negative."""
    scale: float = 1.0
    """Of the slopes."""
    scale_of_sums: float = 1.0


def differentiable(
    compared: Compared,
    result: DenseSums,
    definition: Callable[..., Tensor],
    first: Tensor,
    second: Tensor | None,
    *,
    mean: bool = False,
    stacked: bool = False,
) -> Tensor:
    """Return the sums, or the sum of the means of items that count as 1 each, as a function of the points.

    Args:
        compared: both sets of points.
        result: what a dense function made of it.
        definition: what is returned as a plain composition of ``first`` (and ``second``); it answers for second
            derivatives.
        first, second: as were compared.
        mean: whether the means are asked for.
        stacked: whether it is one set with itself that was compared, both sets on top of each other.
    """
    sums, _, slopes, scale, scale_of_sums = averaged(result, first.dtype) if mean else result
    value = sums if isinstance(sums, Tensor) else torch.tensor(sums, dtype=first.dtype, device=first.device)
    value = matched(value if scale_of_sums == 1 else value * scale_of_sums, first)
    if slopes is None:
        return value
    if value.ndim:
        slopes = torch.stack([slopes.clamp(min=0), slopes.clamp(max=0)])
    gradients = compared.gradients(slopes, scale)
    if stacked and gradients[0] is not None:
        of_first, of_second = gradients[0].chunk(2)
        gradients = of_first, of_second
    known = Known(value, gradients, definition)
    differentiated: Tensor = Derived.apply(known, first, second)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return differentiated


def averaged(result: DenseSums, dtype: torch.dtype) -> DenseSums:
    """Return the mean, or the sum of two means, in the place of what is divided; of numbers in a dtype."""
    sums, denominators, slopes, scale, scale_of_sums = result
    if isinstance(sums, tuple) and isinstance(denominators, tuple):
        first, second = (max(1.0, number) for number in denominators)
        mean = (sums[0] / first + sums[1] / second) * scale_of_sums
        value = torch.tensor(mean, dtype=dtype, device="cpu")  # where numbers are read
        return DenseSums(value, 1, None if slopes is None else F.leaky_relu_(slopes, first / second), scale / first)
    assert isinstance(sums, Tensor)
    if isinstance(denominators, float | int):
        divisor = max(1.0, denominators)
        return DenseSums(sums / (divisor / scale_of_sums), 1, slopes, scale / divisor)
    assert isinstance(denominators, Tensor)
    least = denominators.clamp(min=1)
    means = sums / least
    if not means.ndim:
        return DenseSums(means, 1, None if slopes is None else slopes.div_(least), scale, scale_of_sums)
    if slopes is not None:
        slopes = slopes.div_(torch.where(slopes > 0, least[0], least[1]))
    return DenseSums(means.sum(), 1, slopes, scale, scale_of_sums)


class Known(NamedTuple):
    """A value, its gradients by two sets of points, and its definition as a function of them."""

    value: Tensor
    gradients: tuple[Tensor | None, Tensor | None]
    definition: Callable[..., Tensor]


class Derived(torch.autograd.Function):
    """A value whose gradient is known already, as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, known: Known, first: Tensor, second: Tensor | None) -> Tensor:
        value, gradients, ctx.definition = known
        of_points = (None if part is None else matched(part, first) for part in gradients)
        ctx.save_for_backward(first, second, *of_points)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, *of_points = ctx.saved_tensors
        if torch.is_grad_enabled():  # several at once can be had of what was saved
            return None, *plain_gradients(ctx.definition, gradient, first, second)
        return None, *(None if part is None else chained(gradient, part) for part in of_points)


def chained(gradient: Tensor, part: Tensor) -> Tensor:
    """Return the gradient by the points: that of every sum, times what comes from above."""
    return torch.tensordot(gradient, part, 1) if gradient.ndim else part * gradient
