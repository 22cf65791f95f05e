"""Sums of divergences and entropies over distributions that are too few for blocks, in few operations.

Where an impossible outcome makes the sum infinite or NaN there is ``None`` in place of it: the definitions say then
what it counts as.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.parameters import DistributionForm
from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total, expanded
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_dual, may_read
from losses.ops.elementwise.fused import REDUCTIONS
from losses.ops.numerics.nll import can_divide
from losses.ops.numerics.softmax import inner_product, log_softmax, log_softmax_of_read
from losses.ops.tiles.sizes import sizes

NONE, SUM = (REDUCTIONS.index(each) for each in ("none", "sum"))


class SmallBatch(NamedTuple):
    """Log-probabilities against probabilities ``(..., C)``, and how the divergences ``(...)`` are added up."""

    log_probs: Tensor
    target: Tensor
    factors: Tensor | float
    """What every divergence is multiplied by in the sum, beside each of its outcomes."""
    denominator: Tensor | int
    """Of the mean."""

    def total(self, value: Tensor) -> Total | None:
        """Return the total with that sum, if it is finite."""
        return Total(value, self.denominator) if math.isfinite(value.item()) else None


def are_few_distributions(output: Tensor, target: Tensor | None, weight: object) -> bool:
    """Return whether distributions that were not accepted yet are as accepted ones, too few for blocks, and there is a
    weight for each of them or for none. What has weight 0 may be anything then, if the sum is looked at."""
    dtype = output.dtype
    if dtype not in COMPUTED_IN or not output.ndim or not 0 < output.numel() < sizes().rows_in_blocks:
        return False
    if target is not None and (target.dtype is not dtype or target.shape != output.shape):
        return False
    if weight is None:
        return True
    return isinstance(weight, Tensor) and weight.dtype is dtype and weight.shape == output.shape[:-1]


def small_batch(
    output: Tensor,
    target: Tensor,
    weight: Tensor | None,
    forms: tuple[DistributionForm, DistributionForm],
    *,
    mean: bool,
) -> SmallBatch | None:
    """Return a batch if it can be summed up so.

    Args:
        output: distributions ``(..., C)``.
        target: likewise.
        weight: of every distribution, or one for each of their leading indices.
        forms: of both.
        mean: the sum is to be divided already.
    """
    if forms[0] == "probs" or not may_read(output) or not target.numel():
        return None
    if target.requires_grad or (weight is not None and weight.requires_grad):
        return None
    averaging = averaging_of(weight, target.shape[:-1], mean=mean)
    if averaging is None:
        return None
    factors, denominator = averaging
    if isinstance(factors, Tensor):
        factors = factors.unsqueeze(-1).expand_as(target)
    log_probs = log_softmax(output, -1) if forms[0] == "logits" else output
    if forms[1] != "probs":
        target = target.exp() if forms[1] == "log_probs" else target.softmax(-1)
    return SmallBatch(log_probs, target, factors, denominator)


def averaging_of(weight: Tensor | None, shape: torch.Size, *, mean: bool) -> tuple[Tensor | float, Tensor | int] | None:
    """Return what items ``(...)`` are multiplied by in the sum, which for the ``mean`` is divided already, and the
    denominator; none where that cannot be divided by."""
    if weight is None:
        number = shape.numel()
        return 1 / number if mean else 1.0, number
    factors = expanded(weight, shape)
    denominator = factors.sum()
    if mean and not can_divide(denominator):
        return None
    return factors / denominator if mean else factors, denominator


def small_entropy(output: Tensor, weight: Tensor | None, form: DistributionForm, *, mean: bool) -> Total | None:
    """Return the total of entropies.

    Args:
        output: distributions ``(..., C)``.
        weight: of every distribution, or one for each of their leading indices.
        form: of the output.
        mean: the sum is to be divided already.
    """
    if form == "probs" or not may_read(output) or not output.numel() or (weight is not None and weight.requires_grad):
        return None
    averaging = averaging_of(weight, output.shape[:-1], mean=mean)
    if averaging is None:
        return None
    factors, denominator = averaging
    log_probs = log_softmax(output, -1) if form == "logits" else output
    if isinstance(factors, Tensor):
        value = -inner_product((log_probs.exp() * log_probs).sum(-1), factors)
    else:
        value = inner_product(log_probs.exp(), log_probs) * -factors
    return Total(value, denominator) if math.isfinite(value.item()) else None


def small_forward_kl(batch: SmallBatch) -> Total | None:
    """Return the total of KL of the target from the output."""
    log_probs, target, factors, _ = batch
    if isinstance(factors, Tensor):
        return batch.total(inner_product(torch.kl_div(log_probs, target, NONE), factors))
    return batch.total(torch.kl_div(log_probs, target, SUM) * factors)


def mean_of_few_forward_kl(logits: Tensor, target: Tensor) -> Tensor | None:
    """Return the plain mean of :func:`are_few_distributions` whose outputs are logits, in the fewest steps."""
    if target.requires_grad or not may_read(logits):
        return None
    mean = torch.kl_div(log_softmax_of_read(logits), target, SUM) * (logits.shape[-1] / logits.numel())
    return mean if math.isfinite(mean.item()) else None


def small_jensen_shannon(batch: SmallBatch, definition: Callable[[Tensor], Tensor], *, mixture: float) -> Total | None:
    """Return the total of the Jensen-Shannon divergence.

    Args:
        batch: output and target.
        definition: from log-probabilities to the divergences ``(...)``, as a plain composition.
        mixture: fraction of the target.
    """
    if is_dual(batch.log_probs) or is_dual(batch.target):
        return None
    value: Tensor = JensenShannonSum.apply(definition, *batch[:3], mixture)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return batch.total(value)


class JensenShannonSum(torch.autograd.Function):
    r"""The sum of Jensen-Shannon divergences times factors.

    With :math:`m = (1 - \pi) p + \pi t` a divergence is :math:`(1 - \pi) \sum_c p_c \log (p_c / m_c) + \pi \sum_c t_c
    \log (t_c / m_c)`, and its derivative by :math:`\log p_c` is :math:`(1 - \pi)\, p_c \log (p_c / m_c)`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        definition: Callable[[Tensor], Tensor],
        log_probs: Tensor,
        target: Tensor,
        factors: Tensor | float,
        mixture: float,
    ) -> Tensor:
        probs = log_probs.exp()
        middle = torch.lerp(probs, target, mixture).clamp_(min=torch.finfo(probs.dtype).tiny)
        of_target = torch.xlogy(target, target / middle)
        slopes = probs.mul_(log_probs - middle.log_()).mul_(1 - mixture)
        items = torch.add(slopes, of_target, alpha=mixture)
        ctx.definition, ctx.factors = definition, factors
        ctx.save_for_backward(log_probs, slopes)
        return items.sum() * factors if isinstance(factors, float) else inner_product(items, factors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        log_probs, slopes = ctx.saved_tensors
        if is_asked_again(gradient):
            (found,) = plain_gradients(partial(times, ctx.definition, ctx.factors), gradient, log_probs)
            return None, found, None, None, None
        return None, slopes * (ctx.factors * gradient), None, None, None


def times(definition: Callable[[Tensor], Tensor], factors: Tensor | float, log_probs: Tensor) -> Tensor:
    """Return the same sum as a plain composition."""
    return (definition(log_probs) * (factors[..., 0] if isinstance(factors, Tensor) else factors)).sum()
