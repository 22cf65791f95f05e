"""Optimal transport on a line: both distributions sorted, mass moved from quantile to quantile."""

from __future__ import annotations

import torch
from torch import Tensor


def transport_cost(first: Tensor, second: Tensor, first_weights: Tensor | None, second_weights: Tensor | None, power: float) -> Tensor:
    """Return the integral over q in [0, 1] of abs(F^-1(q) - G^-1(q))**power, exactly.

    Args:
        first, second: points ``(..., N)`` and ``(..., M)``.
        first_weights, second_weights: their weights, at least 0; ``None`` is equal weights.
        power: of the distance.
    """
    if first_weights is None and second_weights is None and first.shape[-1] == second.shape[-1]:
        return magnitude(first.sort(-1).values - second.sort(-1).values, power).mean(-1)
    first, first_steps = quantile_steps(first, first_weights)
    second, second_steps = quantile_steps(second, second_weights)
    steps = torch.cat([first_steps, second_steps], -1).sort(-1).values
    width = steps.diff(dim=-1, prepend=torch.zeros_like(steps[..., :1]))
    middle = (steps - width / 2).detach()  # between two steps both quantile functions are constant
    moved = at_quantile(first, first_steps, middle) - at_quantile(second, second_steps, middle)
    return (width * magnitude(moved, power)).sum(-1)


def quantile_steps(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the points in order, and the share of the whole weight up to and with each of them."""
    points, order = points.sort(-1)
    if weights is None:
        size = points.shape[-1]
        return points, torch.arange(1, size + 1, dtype=points.dtype, device=points.device).div(size).expand_as(points)
    cumulated = weights.expand_as(order).gather(-1, order).cumsum(-1)
    whole = cumulated[..., -1:]
    return points, cumulated / whole.masked_fill(whole == 0, 1)


def at_quantile(points: Tensor, steps: Tensor, quantile: Tensor) -> Tensor:
    index = torch.searchsorted(steps.detach().contiguous(), quantile.contiguous()).clamp(max=points.shape[-1] - 1)
    return points.gather(-1, index)


def magnitude(difference: Tensor, power: float) -> Tensor:
    """Return abs(difference)**power, with gradient 0 at 0 for every power of at least 1."""
    if power == 1:
        return difference.abs()
    if power == 2:
        return difference.square()
    zero = difference == 0
    return difference.abs().masked_fill(zero, 1).pow(power).masked_fill(zero, 0)
