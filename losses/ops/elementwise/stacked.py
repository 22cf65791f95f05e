"""Value and derivative of an element in few operations, stacked in one tensor, and their sums: for devices on which
every operation is a launch and to read a value is to wait for it.

There a launch costs more than what it does to a small batch. What both the values and their derivatives need, as their
weights, is done to the two of them at once; what has weight 0 is hidden after it was computed, in place of a copy of
the batch before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.inputs.kind import masked
from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total, expanded, total_of
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_launched
from losses.ops.numerics.exponential import largest_exponent

Definition = Callable[..., Tensor]
Stacked = Callable[..., Tensor]
"""From outputs and target to the values and, below them, their derivatives by each of the outputs ``(1 + P, ...)``,
which the caller may write to; no value is looked at."""


def suits_stack(output: Tensor, *others: Tensor | None, outputs: int = 1) -> bool:
    """Return whether sums may be made so: where every operation is a launch, and nobody wants a derivative by something
    else than the outputs, the first of these tensors."""
    if not is_launched(output, *others) or output.dtype not in COMPUTED_IN:
        return False
    given = [other for other in others if other is not None]
    if any(other.dtype is not output.dtype for other in given):
        return False
    return not (torch.is_grad_enabled() and any(other.requires_grad for other in given[outputs - 1 :]))


class StackedBatch(NamedTuple):
    """A batch that :func:`suits_stack`, and what sums it up."""

    stacked: Stacked
    """Value and derivatives of an element."""
    definition: Definition
    """From outputs and target to the items, as a plain composition; it answers for second derivatives."""
    outputs: Sequence[Tensor]
    """P of any shape."""
    target: Tensor
    """Of the same."""
    weight: Tensor | None
    """One per item or per leading index; or none."""
    trailing: int = 0
    """How many of the last dimensions make one item together: its value is the sum over them."""

    @property
    def shape(self) -> torch.Size:
        """Of the items."""
        return self.target.shape[: self.target.ndim - self.trailing]

    def mean(self) -> Tensor:
        """Return sum(w l) / sum(w) of all items, differentiable by the outputs; 0 where nothing has any weight."""
        return self._reduced(mean=True)

    def total(self) -> Total:
        """Return sum(w l) likewise, and what the mean divides it by."""
        denominator = self.shape.numel() if self.weight is None else expanded(self.weight, self.shape).sum()
        return Total(self._reduced(mean=False), denominator)

    def _reduced(self, *, mean: bool) -> Tensor:
        value: Tensor = StackedSum.apply(self, mean, *self.outputs)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return value


class StackedSum(torch.autograd.Function):
    """The sum or mean as one operation of autograd; its gradients are made on the way."""

    @staticmethod
    def forward(ctx: Any, batch: StackedBatch, mean: bool, *outputs: Tensor) -> Tensor:
        stack, weight, shape = batch.stacked(*outputs, batch.target), batch.weight, batch.shape
        if weight is not None:
            # divided first: tiny weights have a tiny sum; where that is 0, everything is absent
            factors = weight / expanded(weight, shape).sum() if mean else weight
            beside = partial(beside_stack, shape=shape, trailing=batch.trailing)
            stack.mul_(beside(factors)).masked_fill_(beside(weight == 0), 0)
        ctx.divisor = shape.numel() if mean and weight is None else 1
        ctx.definition, ctx.mean = batch.definition, mean
        ctx.save_for_backward(batch.target, weight, stack[1:], *outputs)
        if ctx.divisor == stack[0].numel():
            return stack[0].mean()
        return stack[0].sum() if ctx.divisor == 1 else stack[0].sum() / ctx.divisor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        target, weight, slopes, *outputs = ctx.saved_tensors
        if is_asked_again(gradient):
            definition = partial(plain_reduced, ctx.definition, target, weight, ctx.mean)
            return None, None, *plain_gradients(definition, gradient, *outputs)
        return None, None, *(slopes * (gradient if ctx.divisor == 1 else gradient / ctx.divisor)).unbind()


def beside_stack(weight: Tensor, shape: torch.Size, trailing: int) -> Tensor:
    """Return weights of items as they are beside a stack of their elements."""
    return expanded(weight, shape).reshape(shape + (1,) * trailing) if trailing else expanded(weight, shape)


def plain_reduced(
    definition: Definition, target: Tensor, weight: Tensor | None, mean: bool, *outputs: Tensor
) -> Tensor:
    """Return the same as a plain composition."""
    parts = (*outputs, target) if weight is None else tuple(masked(part, weight) for part in (*outputs, target))
    total = total_of(definition(*parts), weight)
    return total.mean() if mean else total.sum


def empty_stack(output: Tensor, outputs: int = 1) -> Tensor:
    """Return where values and derivatives by so many outputs are written to."""
    return output.new_empty(1 + outputs, *output.shape)


def squared(output: Tensor, target: Tensor) -> Tensor:
    values, slopes = stack = empty_stack(output)
    torch.sub(output, target, out=slopes)
    torch.square(slopes, out=values)
    slopes.mul_(2)
    return stack


def absolute(output: Tensor, target: Tensor) -> Tensor:
    values, slopes = stack = empty_stack(output)
    torch.sub(output, target, out=slopes)
    torch.abs(slopes, out=values)
    slopes.sign_()
    return stack


def huber(output: Tensor, target: Tensor, *, delta: float) -> Tensor:
    values, slopes = stack = empty_stack(output)
    torch.sub(output, target, out=values)
    torch.clamp(values, -delta, delta, out=slopes)
    values.sub_(slopes, alpha=0.5).mul_(slopes)
    return stack


def log_cosh(output: Tensor, target: Tensor, *, linear_beyond: float) -> Tensor:
    values, slopes = stack = empty_stack(output)
    torch.sub(output, target, out=values)
    torch.tanh(values, out=slopes)
    clipped = values.clamp(-linear_beyond, linear_beyond)
    values.sub_(clipped).abs_().add_(clipped.sinh_().square_().log1p_(), alpha=0.5)
    return stack


def pinball(output: Tensor, target: Tensor, *, quantile: float) -> Tensor:
    values, slopes = stack = empty_stack(output)
    torch.sub(output, target, out=slopes)
    torch.maximum(slopes * (1 - quantile), slopes * -quantile, out=values)
    slopes.sign_().mul_(0.5).add_(0.5 - quantile)
    return stack


def hinge(scores: Tensor, target: Tensor, *, margin: float, power: int) -> Tensor:
    values, slopes = stack = empty_stack(scores)
    torch.clamp(target, 0, 1, out=slopes).ceil_().mul_(-2).add_(1)  # against the side on which a score belongs
    torch.mul(scores, slopes, out=values).add_(margin).clamp_(min=0)
    if power == 1:
        slopes.mul_(values.sign())
    else:
        slopes.mul_(values).mul_(2)
        values.square_()
    return stack


def binary_cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float) -> Tensor:
    """As torch has it: (1 - t) z - log(sigmoid(z)), with derivative sigmoid(z) - t."""
    values, slopes = stack = empty_stack(logits)
    torch.addcmul(logits, logits, target, value=smoothing - 1, out=values).sub_(F.logsigmoid(logits))
    torch.sigmoid(logits, out=slopes).sub_(target, alpha=1 - smoothing)
    if smoothing:
        values.sub_(logits, alpha=smoothing / 2)
        slopes.sub_(smoothing / 2)
    return stack


def poisson(log_rates: Tensor, target: Tensor, *, full: bool) -> Tensor:
    values, slopes = stack = empty_stack(log_rates)
    below = log_rates.clamp(max=largest_exponent(log_rates.dtype))
    torch.exp(below, out=slopes)
    torch.sub(log_rates, below, out=values)
    torch.addcmul(slopes, slopes, values, out=values)  # exp and, above, its tangent
    values.addcmul_(log_rates, target, value=-1)
    slopes.sub_(target)
    if full:
        values.add_(target.add(1).lgamma_())
    return stack
