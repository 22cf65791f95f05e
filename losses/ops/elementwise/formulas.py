"""Value and derivative of an element, written into buffers: what the definitions beside the losses say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from losses.ops.elementwise import stacked
from losses.ops.elementwise.stacked import Definition, Stacked, StackedBatch, suits_stack
from losses.ops.numerics.exponential import largest_exponent

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
    stacked: Stacked | None = None
    """The values and, below them, their derivatives, where every operation is a launch; no value is looked at."""
    nearly: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """Likewise in less time, where values may be off by half a unit in the last place of 1: for a sum in which that is
    seen to be none of its digits."""

    def launched(
        self, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None
    ) -> StackedBatch | None:
        """Return what sums a batch up where every operation is a launch, if it can be made so.

        Args:
            definition: the items as a plain composition.
            output: of any shape.
            target: of the same.
            weight: one per element or per leading index, or none.
        """
        if self.stacked is None or not suits_stack(output, target, weight):
            return None
        return StackedBatch(self.stacked, definition, [output], target, weight)


def squared_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).square_()


def squared_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).mul_(2)


def squared_values_and_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    residual = torch.sub(output, target, out=spare)
    return torch.mul(residual, residual, out=into), residual.mul_(2)


def absolute_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).abs_()


def absolute_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).sign_()


def absolute_values_and_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    residual = torch.sub(output, target, out=spare)
    return torch.abs(residual, out=into), residual.sign_()


def huber_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, delta: float) -> Tensor:
    torch.sub(output, target, out=into)
    clipped = torch.clamp(into, -delta, delta, out=spare)
    return into.sub_(clipped, alpha=0.5).mul_(clipped)


def huber_values_and_slopes(
    output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, delta: float
) -> tuple[Tensor, Tensor]:
    torch.sub(output, target, out=into)
    clipped = torch.clamp(into, -delta, delta, out=spare)
    return into.sub_(clipped, alpha=0.5).mul_(clipped), clipped


def huber_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, delta: float) -> Tensor:
    return torch.sub(output, target, out=into).clamp_(-delta, delta)


def log_cosh_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    torch.sub(output, target, out=into)
    clipped = torch.clamp(into, -LINEAR_BEYOND, LINEAR_BEYOND, out=spare)
    return into.sub_(clipped).abs_().add_(clipped.sinh_().square_().log1p_(), alpha=0.5)


def log_cosh_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> Tensor:
    return torch.sub(output, target, out=into).tanh_()


def log_cosh_values_and_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """With sinh as tanh times cosh, which exp makes: that is much faster, and loses no digits of small residuals."""
    torch.sub(output, target, out=into)
    slopes = torch.tanh(into, out=spare)
    clipped = into.clamp(-LINEAR_BEYOND, LINEAR_BEYOND)
    beyond = into.sub_(clipped).abs_()
    powers = clipped.exp_()
    doubled = powers.add_(powers.reciprocal()).mul_(slopes)
    return beyond.add_(doubled.square_().mul_(0.25).log1p_(), alpha=0.5), slopes


def pinball_values(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, quantile: float) -> Tensor:
    torch.sub(output, target, out=into)
    above = torch.mul(into, 1 - quantile, out=spare)
    return torch.maximum(into.mul_(-quantile), above, out=into)


def pinball_slopes(output: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, quantile: float) -> Tensor:
    return torch.sub(output, target, out=into).sign_().mul_(0.5).add_(0.5 - quantile)


def shortfall(scores: Tensor, target: Tensor, into: Tensor, spare: Tensor, margin: float) -> Tensor:
    """Write how far scores fall short of the margin, and into the spare tensor on which side of 0 they belong."""
    side = torch.threshold(target, 0, -1, out=spare).clamp_(max=1)
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
    missed = missed_by(logits, target, spare, smoothing)
    return torch.abs(logits, out=into).neg_().exp_().log1p_().add_(missed)


def missed_by(logits: Tensor, target: Tensor, into: Tensor, smoothing: float) -> Tensor:
    """Write z ([z > 0] - t), in which a large z keeps the digits of a target near 1."""
    torch.gt(logits, 0, out=into).sub_(target, alpha=1 - smoothing)
    if smoothing:
        into.sub_(smoothing / 2)
    return into.mul_(logits)


def binary_slopes(logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, smoothing: float) -> Tensor:
    slopes = torch.sigmoid(logits, out=into).sub_(target, alpha=1 - smoothing)
    return slopes.sub_(smoothing / 2) if smoothing else slopes


def binary_values_and_slopes(
    logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, smoothing: float
) -> tuple[Tensor, Tensor]:
    values = binary_values(logits, target, into, spare, smoothing=smoothing)
    return values, binary_slopes(logits, target, spare, into, smoothing=smoothing)


def binary_nearly(
    logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, smoothing: float
) -> tuple[Tensor, Tensor]:
    """With log(1 + exp(-|z|)) as written, in a third of the time of log1p."""
    values = torch.abs(logits, out=into).neg_().exp_().add_(1).log_()
    values += missed_by(logits, target, spare, smoothing)
    return values, binary_slopes(logits, target, spare, into, smoothing=smoothing)


def poisson_values_and_slopes(
    log_rates: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, full: bool
) -> tuple[Tensor, Tensor]:
    largest = largest_exponent(log_rates.dtype)
    if log_rates.amax().item() <= largest:
        rates = torch.exp(log_rates, out=into)
        slopes = torch.sub(rates, target, out=spare)
    else:  # or NaN
        below = log_rates.clamp(max=largest)
        slopes = torch.exp(below, out=into).sub(target)
        rates = into.addcmul_(into, torch.sub(log_rates, below, out=spare))  # exp and, above, its tangent
    values = rates.addcmul_(log_rates, target, value=-1)
    return values.add_(target.add(1).lgamma_()) if full else values, slopes


SQUARED = Formula(squared_values, squared_slopes, squared_values_and_slopes, stacked.squared)
ABSOLUTE = Formula(absolute_values, absolute_slopes, absolute_values_and_slopes, stacked.absolute)
LOG_COSH = Formula(
    log_cosh_values,
    log_cosh_slopes,
    log_cosh_values_and_slopes,
    partial(stacked.log_cosh, linear_beyond=LINEAR_BEYOND),
)


def huber(delta: float) -> Formula:
    return formula_of(huber_values, huber_slopes, stacked.huber, huber_values_and_slopes, delta=delta)


def pinball(quantile: float) -> Formula:
    return formula_of(pinball_values, pinball_slopes, stacked.pinball, quantile=quantile)


def hinge(margin: float, power: int) -> Formula:
    return formula_of(hinge_values, hinge_slopes, stacked.hinge, margin=margin, power=power)


def binary_cross_entropy(smoothing: float) -> Formula:
    made = binary_values, binary_slopes, stacked.binary_cross_entropy, binary_values_and_slopes, binary_nearly
    return formula_of(*made, smoothing=smoothing)


def formula_of(
    values: Callable[..., Tensor],
    slopes: Callable[..., Tensor],
    launched: Callable[..., Tensor],
    both: Callable[..., tuple[Tensor, Tensor]] | None = None,
    nearly: Callable[..., tuple[Tensor, Tensor]] | None = None,
    **parameters: float,
) -> Formula:
    """Return a formula whose parts all take the same parameters."""
    return Formula(
        partial(values, **parameters),
        partial(slopes, **parameters),
        both and partial(both, **parameters),
        partial(launched, **parameters),
        nearly and partial(nearly, **parameters),
    )


def poisson(full: bool) -> Formula:
    written = partial(poisson_values_and_slopes, full=full)
    return Formula(
        lambda *block: written(*block)[0],
        lambda *block: block[2].copy_(written(*block)[1]),
        written,
        partial(stacked.poisson, full=full),
    )
