"""Value and derivative of rows of logits along the last dimension, stacked as in :mod:`losses.ops.elementwise.stacked`:
the value of a row is the sum over its classes."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from losses.core.parameters import DistributionForm
from losses.core.torch_private import operation
from losses.ops.elementwise.stacked import Definition, Stacked, StackedBatch, empty_stack, suits_stack

LOG_SOFTMAX_BACKWARD = operation("_log_softmax_backward_data", "out")


def stacked_distributions(
    stacked: Stacked,
    definition: Definition,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    forms: tuple[DistributionForm, DistributionForm],
) -> StackedBatch | None:
    """Return what sums distributions ``(..., C)`` up where every operation is a launch, if it can be made so.

    Args:
        stacked: value and derivative by logits, from these and probabilities.
        definition: from both to the items ``(...)``, as a plain composition.
        logits: of the output.
        target: of the same shape.
        weight: one for each item or leading index, or none.
        forms: of both; there is no other way than from logits.
    """
    if forms[0] != "logits" or not suits_stack(logits, target, weight) or not target.numel():
        return None
    from_target = partial(probabilities_of, form=forms[1])
    return StackedBatch(
        lambda output, target: stacked(output, from_target(target)), definition, [logits], target, weight, trailing=1
    )


def write_slopes(slopes: Tensor, log_probs: Tensor, into: Tensor) -> Tensor:
    """Write derivatives by logits, of those by log-probabilities, which are the log-softmax of them."""
    if LOG_SOFTMAX_BACKWARD is None:
        return torch.sub(slopes, log_probs.exp().mul_(slopes.sum(-1, keepdim=True)), out=into)
    written: Tensor = LOG_SOFTMAX_BACKWARD(slopes, log_probs, -1, log_probs.dtype, out=into)
    return written


def forward_kl(logits: Tensor, target: Tensor) -> Tensor:
    """Return t (log t - log p), with derivative p sum(t) - t, where t counts as 0 beside a p of 0."""
    values, slopes = stack = empty_stack(logits)
    log_probs, probs = logits.log_softmax(-1), target.clamp(min=0)
    torch.xlogy(probs, probs, out=values).addcmul_(probs, floor(log_probs), value=-1)
    probs.masked_fill_(log_probs == -torch.inf, 0)
    write_slopes(probs, log_probs, slopes).neg_()
    return stack


def jensen_shannon(logits: Tensor, target: Tensor, *, mixture: float) -> Tensor:
    r"""Return (1 - \pi) p log(p / m) + \pi t log(t / m) with m = (1 - \pi) p + \pi t, of which the first part is also
    the derivative of the sum by log p."""
    values, slopes = stack = empty_stack(logits)
    log_probs, probs = logits.log_softmax(-1), target.clamp(min=0)
    own = log_probs.exp()
    middle = torch.lerp(own, probs, mixture).clamp_(min=torch.finfo(own.dtype).tiny)
    of_target = torch.xlogy(probs, probs / middle)
    own.mul_(floor(log_probs).sub_(middle.log_())).mul_(1 - mixture)
    torch.add(own, of_target, alpha=mixture, out=values)
    write_slopes(own, log_probs, slopes)
    return stack


def soft_cross_entropy(
    logits: Tensor, target: Tensor, *, label_smoothing: float, class_weight: Tensor | None
) -> Tensor:
    """Return -a log p, with derivative p sum(a) - a, of what a class costs a: its probability, drawn towards that of
    all alike, times its weight. What costs nothing changes nothing, even where log p is -inf."""
    values, slopes = stack = empty_stack(logits)
    log_probs, gains = logits.log_softmax(-1), target * (label_smoothing - 1)
    if label_smoothing:
        gains.sub_(label_smoothing / logits.shape[-1])
    if class_weight is not None:
        gains.mul_(class_weight)
    torch.mul(gains, log_probs, out=values).masked_fill_(gains == 0, 0)
    write_slopes(gains, log_probs, slopes)
    return stack


def floor(log_probs: Tensor) -> Tensor:
    """Return log-probabilities that are :func:`losses.ops.numerics.log_space.floored`, in one operation."""
    lowest = math.log(torch.finfo(log_probs.dtype).tiny)
    return torch.nan_to_num(log_probs, nan=torch.nan, posinf=torch.inf, neginf=lowest)


def probabilities_of(target: Tensor, form: DistributionForm) -> Tensor:
    """Return probabilities that a target says in another form."""
    if form == "probs":
        return target
    return target.exp() if form == "log_probs" else target.softmax(-1)
