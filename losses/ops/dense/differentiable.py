"""Sums and means over a dense matrix, differentiable: the gradient is known as soon as the value is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.ops.dense.matrix import DenseMatrix
from losses.ops.derivatives import plain_gradients


class DenseSums(NamedTuple):
    """One or two sums over a matrix, what their means are divided by, and their derivative by the matrix."""

    sums: Tensor
    """``()``, or ``(2,)``."""
    denominators: Tensor | float
    """``()``, or ``(2,)``; items count as 1 each, or as their weight."""
    slopes: Tensor | None = None
    """``(N, M)``, 0 where a point meets itself; ``None`` where nothing is differentiated."""
    scale: float = 1.0
    """Of the slopes."""
    is_first: Tensor | None = None
    """Of two sums, which entries ``(N, M)`` belong to the first."""


def differentiable(
    matrix: DenseMatrix,
    result: DenseSums,
    definition: Callable[..., Tensor],
    first: Tensor,
    second: Tensor | None,
    *,
    mean: bool = False,
) -> Tensor:
    """Return the sums, or the sum of the means of items that count as 1 each, as a function of the points.

    Args:
        matrix: of both sets of points.
        result: what a dense function made of it.
        definition: what is returned as a plain composition of ``first`` (and ``second``); it answers for second
            derivatives.
        first, second: as the matrix was made of.
        mean: whether the means are asked for.
    """
    value, denominators, slopes, scale, is_first = result
    divisor: Tensor | float = 1.0
    if mean:
        divisor = denominators.clamp(min=1) if isinstance(denominators, Tensor) else max(1, denominators)
        value = value / divisor
        if is_first is not None:
            value = value.sum()
    value = value.to(first.dtype)
    if slopes is None:
        return value
    if is_first is not None:
        if isinstance(divisor, Tensor):
            of_first, of_second = divisor.unbind()
            slopes, divisor = slopes / torch.where(is_first, of_first, of_second), 1.0
        else:
            slopes = slopes * torch.stack([is_first, ~is_first])
    known = Known(value, matrix.gradients(slopes), divisor if scale == 1 else divisor / scale, definition)
    differentiated: Tensor = Derived.apply(known, first, second)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return differentiated


class Known(NamedTuple):
    """A value, its gradients by two sets of points times a divisor, and its definition as a function of them."""

    value: Tensor
    gradients: tuple[Tensor | None, Tensor | None]
    divisor: Tensor | float
    definition: Callable[..., Tensor]


class Derived(torch.autograd.Function):
    """A value whose gradient is known already, as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, known: Known, first: Tensor, second: Tensor | None) -> Tensor:
        value, gradients, ctx.divisor, ctx.definition = known
        of_points = (None if part is None else part.to(first.dtype) for part in gradients)
        ctx.save_for_backward(first, second, *of_points)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, *of_points = ctx.saved_tensors
        if torch.is_grad_enabled():  # several at once can be had of what was saved
            return None, *plain_gradients(ctx.definition, gradient, first, second)
        gradient = gradient / ctx.divisor
        return None, *(None if part is None else chained(gradient, part) for part in of_points)


def chained(gradient: Tensor, part: Tensor) -> Tensor:
    """Return the gradient by the points: that of every sum, times what comes from above."""
    return torch.tensordot(gradient, part, 1) if gradient.ndim else part * gradient
