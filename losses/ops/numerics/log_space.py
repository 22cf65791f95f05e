"""Distributions in log space: one form inside, whatever form came in."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.parameters import DistributionForm


def log_probabilities(values: Tensor, form: DistributionForm) -> Tensor:
    """Return log-probabilities along the last dimension; -inf where a probability is 0, with gradient 0 there."""
    if form == "logits":
        return values.log_softmax(-1)
    if form == "log_probs":
        return values
    zero = values <= 0
    some = values.masked_fill(zero, 1)
    if not values.requires_grad:
        return some.log().masked_fill(zero, -torch.inf)
    # as log, whose second derivative is formed of 1 / p^2 and leaves the range of the dtype where p does not
    here = some.detach()
    # compiled, nobody else holds a gradient that overflows
    scale = here.clamp(min=torch.finfo(here.dtype).tiny) if is_compiling() else here
    return here.log().masked_fill(zero, -torch.inf) + ((some - here) / scale).log1p()


def floored(log_probs: Tensor) -> Tensor:
    """Return log-probabilities with log(smallest normal number) in place of -inf: divergences stay finite, as do
    gradients."""
    return log_probs.masked_fill(log_probs == -torch.inf, math.log(torch.finfo(log_probs.dtype).tiny))


def floored_beside(log_probs: Tensor, log_other: Tensor) -> Tensor:
    """Return log-probabilities :func:`floored` where another distribution has some; what neither has stays -inf."""
    return torch.where(log_other == -torch.inf, log_probs, floored(log_probs))


def relative_entropy(log_probs: Tensor, log_other: Tensor) -> Tensor:
    """Return p (log p - log q) of every outcome, with 0 log 0 = 0 in value and in gradient."""
    absent = log_probs == -torch.inf
    present = log_probs.masked_fill(absent, 0)
    return (present.exp() * (present - floored(log_other))).masked_fill(absent, 0)


def log_of_sum(first: Tensor, second: Tensor) -> Tensor:
    """Return log(exp(first) + exp(second)) of finite numbers; the second derivative of ``torch.logaddexp`` is NaN where
    they are so far apart that the exponential of their difference overflows."""
    top = torch.maximum(first.detach(), second.detach())
    return top + ((first - top).exp() + (second - top).exp()).log()


def masked_log_sum(logits: Tensor, mask: Tensor) -> Tensor:
    """Return log(sum(exp(.))) over the masked entries of the last dimension; 0, with gradient 0, where nothing is
    masked, as log 0 would have a gradient of NaN."""
    nothing = ~mask.any(-1, keepdim=True)
    some = logits.masked_fill(~(mask | nothing), -torch.inf).masked_fill(nothing, 0)
    return some.logsumexp(-1).masked_fill(nothing.squeeze(-1), 0)


def softplus(values: Tensor) -> Tensor:
    """Return log(1 + exp(.)), exact in float64 too: torch takes the identity from 20 on, which is 2e-9 off."""
    return F.softplus(values, threshold=40)


def exponentials_below(shifted: Tensor) -> Tensor:
    """Return the exponentials of numbers of at most 0, in place, and 0 for those that beside 1 are as good as that.

    Near the end of the range, and beyond, they take a hundred times as long.
    """
    nothing = math.log(torch.finfo(shifted.dtype).tiny) / 2
    return torch.threshold_(shifted.clamp_(min=nothing).exp_(), 2 * math.exp(nothing), 0)
