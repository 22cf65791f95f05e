"""Optimal transport on a line: both distributions sorted, mass moved from quantile to quantile."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.precision import accumulated
from losses.ops.numerics.searching import searchsorted
from losses.ops.transport.sorting import in_order, in_order_with_index


def moves(
    first: Tensor, second: Tensor, first_weights: Tensor | None, second_weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return how far each piece of mass moves, F^-1(q) - G^-1(q), and how large it is; ``None`` is equal pieces.

    Args:
        first, second: points ``(..., N)`` and ``(..., M)``.
        first_weights, second_weights: their weights, at least 0; ``None`` is equal weights.
    """
    if first_weights is None and second_weights is None and first.shape[-1] == second.shape[-1]:
        return in_order(first) - in_order(second), None
    first, first_steps = quantile_steps(first, first_weights)
    second, second_steps = quantile_steps(second, second_weights)
    steps = in_order(torch.cat([first_steps, second_steps], -1))
    width = steps.diff(dim=-1, prepend=torch.zeros_like(steps[..., :1]))
    middle = (steps - width / 2).detach()  # between two steps both quantile functions are constant
    moved = at_quantile(first, first_steps, middle) - at_quantile(second, second_steps, middle)
    return moved, width


def power_mean(moved: Tensor, width: Tensor | None, power: float) -> Tensor:
    """Return the mean of abs(moved)**power over the last dimension."""
    values = magnitude(moved, power)
    return values.mean(-1) if width is None else (width * values).sum(-1)


def norm(moved: Tensor, width: Tensor | None, power: float) -> Tensor:
    """Return the power mean to the power 1 / power, in the unit of the moves; no large power overflows on the way."""
    if power == 1:
        return power_mean(moved, width, power)
    largest = moved.detach().abs().amax(-1)
    scale = largest.masked_fill(largest == 0, 1)
    return scale * magnitude(power_mean(moved / scale.unsqueeze(-1), width, power), 1 / power)


def quantile_steps(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the points in order, and the fraction of the whole weight up to and with each of them."""
    points = accumulated(points)  # widths are differences of sums, which float32 would round away
    points, order = in_order_with_index(points)
    if weights is None:
        size = points.shape[-1]
        return points, torch.arange(1, size + 1, dtype=points.dtype, device=points.device).div(size).expand_as(points)
    cumulated = weights.to(points.dtype).expand_as(order).gather(-1, order).cumsum(-1)
    whole = cumulated[..., -1:]
    return points, cumulated / whole.masked_fill(whole == 0, 1)


def at_quantile(points: Tensor, steps: Tensor, quantile: Tensor) -> Tensor:
    index = searchsorted(steps.detach().contiguous(), quantile.contiguous()).clamp(max=points.shape[-1] - 1)
    return points.gather(-1, index)


def magnitude(difference: Tensor, power: float) -> Tensor:
    """Return abs(difference)**power, with gradient 0 at 0 for every power of at least 1."""
    if power == 1:
        return difference.abs()
    if power == 2:
        return difference.square()
    zero = difference == 0
    return difference.abs().masked_fill(zero, 1).pow(power).masked_fill(zero, 0)
