"""Sums and means over a dense matrix, differentiable: the gradient is known as soon as the value is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.precision import matched
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.derivatives import plain_gradients


class DenseSums(NamedTuple):
    """One or two sums over a matrix, what their means are divided by, and their derivative by the matrix."""

    sums: Tensor | tuple[float, float]
    """``()``, or two numbers, or two that nobody has read ``(2,)``."""
    denominators: Tensor | float | tuple[float, float]
    """Likewise; items count as 1 each, or as their weight."""
    slopes: Tensor | None = None
    """``(N, M)``, 0 where a point meets itself; ``None`` where nothing is differentiated. Of two sums those of the
    first are positive, and those of the second negative."""
    scale: float = 1.0
    """Of the slopes."""


def differentiable(
    matrix: DenseMatrix,
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
        matrix: of both sets of points.
        result: what a dense function made of it.
        definition: what is returned as a plain composition of ``first`` (and ``second``); it answers for second
            derivatives.
        first, second: as the matrix was made of.
        mean: whether the means are asked for.
        stacked: whether the matrix is of one set with itself, both sets on top of each other.
    """
    sums, _, slopes, scale = result
    if mean:
        value, slopes, scale = averaged(result)
    else:
        value = torch.tensor(sums, dtype=first.dtype) if isinstance(sums, tuple) else sums
        if value.ndim and slopes is not None:
            slopes = torch.stack([slopes.clamp(min=0), slopes.clamp(max=0)])
    value = matched(value, first)
    if slopes is None:
        return value
    gradients = matrix.gradients(slopes, scale)
    if stacked and gradients[0] is not None:
        of_first, of_second = gradients[0].chunk(2)
        gradients = of_first, of_second
    known = Known(value, gradients, definition)
    differentiated: Tensor = Derived.apply(known, first, second)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return differentiated


def averaged(result: DenseSums) -> tuple[Tensor, Tensor | None, float]:
    """Return the mean, or the sum of two means, with its slopes and their scale."""
    sums, denominators, slopes, scale = result
    if isinstance(sums, Tensor) and isinstance(denominators, Tensor) and not on_cpu(denominators):
        least = denominators.clamp(min=1)
        if not sums.ndim:
            return sums / least, None if slopes is None else slopes.div_(least), scale
        if slopes is not None:
            slopes = slopes.div_(torch.where(slopes > 0, least[0], least[1]))
        return (sums / least).sum(), slopes, scale
    if not isinstance(sums, tuple):
        divisor = max(1.0, float(denominators))  # type: ignore[arg-type]  # one for one sum
        return sums / divisor, slopes, scale / divisor
    first, second = (max(1.0, number) for number in denominators)  # type: ignore[union-attr]  # two for two sums
    value = torch.tensor(sums[0] / first + sums[1] / second, dtype=torch.float64)
    if slopes is None:
        return value, None, scale
    return value, F.leaky_relu_(slopes, first / second), scale / first


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
