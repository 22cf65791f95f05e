"""Value and derivative of an element, written into buffers: what the definitions beside the losses say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

Written = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Writes something of output and target into a third tensor, which it returns, with a fourth to keep things in
meanwhile; all are of one shape and dtype."""

LINEAR_BEYOND = 20.0
"""Of a residual: from here on log cosh rises by 1 for each 1, to all the digits of float64."""


@dataclass(frozen=True)
class Formula:
    """What is to be summed, element by element."""

    values: Written
    slopes: Written
    """Derivatives of the values by the output."""
    both: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """The values and their derivatives, where they have most in common; both tensors may be written to."""


def squared_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).square_()


def squared_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).mul_(2)


def absolute_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).abs_()


def absolute_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).sign_()


def huber_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, delta: float) -> Tensor:
    torch.sub(output, target, out=into)
    clipped = torch.clamp(into, -delta, delta, out=spare)
    return into.sub_(clipped, alpha=0.5).mul_(clipped)


def huber_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, delta: float) -> Tensor:
    return torch.sub(output, target, out=into).clamp_(-delta, delta)


def log_cosh_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    torch.sub(output, target, out=into)
    clipped = torch.clamp(into, -LINEAR_BEYOND, LINEAR_BEYOND, out=spare)
    return into.sub_(clipped).abs_().add_(clipped.sinh_().square_().log1p_(), alpha=0.5)


def log_cosh_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).tanh_()


def pinball_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, quantile: float) -> Tensor:
    torch.sub(output, target, out=into)
    above = torch.mul(into, 1 - quantile, out=spare)
    return torch.maximum(into.mul_(-quantile), above, out=into)


def pinball_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, quantile: float) -> Tensor:
    return torch.sub(output, target, out=into).sign_().mul_(0.5).add_(0.5 - quantile)


def shortfall(scores: Tensor, target: Tensor, into: Tensor, spare: Tensor, margin: float) -> Tensor:
    """Write how far scores fall short of the margin, and into the spare tensor on which side of 0 they belong."""
    side = torch.clamp(target, 0, 1, out=spare).ceil_().mul_(2).sub_(1)
    return torch.mul(scores, side, out=into).neg_().add_(margin)


def hinge_values(scores: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, margin: float, power: int) -> Tensor:
    values = shortfall(scores, target, into, spare, margin).clamp_(min=0)
    return values if power == 1 else values.square_()


def hinge_slopes(scores: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, margin: float, power: int) -> Tensor:
    short = shortfall(scores, target, into, spare, margin)
    times = torch.gt(short, 0, out=into) if power == 1 else short.clamp_(min=0).mul_(2)
    return times.mul_(spare).neg_()


def binary_values(logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, smoothing: float) -> Tensor:
    """Write log(1 + exp(-|z|)) + z ([z > 0] - t): of the two parts none is below 0, so no digits are lost."""
    torch.gt(logits, 0, out=spare).sub_(target, alpha=1 - smoothing).sub_(smoothing / 2).mul_(logits)
    return torch.abs(logits, out=into).neg_().exp_().log1p_().add_(spare)


def binary_slopes(logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, smoothing: float) -> Tensor:
    return torch.sigmoid(logits, out=into).sub_(target, alpha=1 - smoothing).sub_(smoothing / 2)


SQUARED = Formula(squared_values, squared_slopes)
ABSOLUTE = Formula(absolute_values, absolute_slopes)
LOG_COSH = Formula(log_cosh_values, log_cosh_slopes)


def huber(delta: float) -> Formula:
    return Formula(partial(huber_values, delta=delta), partial(huber_slopes, delta=delta))


def pinball(quantile: float) -> Formula:
    return Formula(partial(pinball_values, quantile=quantile), partial(pinball_slopes, quantile=quantile))


def hinge(margin: float, power: int) -> Formula:
    return Formula(partial(hinge_values, margin=margin, power=power), partial(hinge_slopes, margin=margin, power=power))


def binary_cross_entropy(smoothing: float) -> Formula:
    return Formula(partial(binary_values, smoothing=smoothing), partial(binary_slopes, smoothing=smoothing))
