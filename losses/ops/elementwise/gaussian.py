"""Sums over Gaussians with the derivative by hand: of their divergence from the standard one, and of what they say of
targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total, expanded, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import Written, is_asked_again, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.blocks import total_and_slopes, total_in_blocks
from losses.ops.elementwise.buffers import gradient_like
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.stacked import empty_stack
from losses.ops.tiles.sizes import sizes

Divergences = Callable[[Tensor, Tensor], Tensor]
Likelihoods = Callable[[Tensor, Tensor, Tensor], Tensor]
LARGEST = 1e20
"""Of a sum that tells that no variance in it was near the end of the range of its dtype."""
LEAST = -40.0
"""Log-variance above which no precision is near the end of the range of float32."""


def gaussian_kl_sum(
    definition: Divergences,
    mean: Tensor,
    log_variance: Tensor,
    *,
    beside: Tensor | None = None,
    beta: float = 1.0,
    divisor: float = 1.0,
) -> Tensor | None:
    """Return (b + beta * sum of KL(N(mean, exp(log_variance)) ‖ N(0, 1))) / divisor in few operations; ``None`` where
    only the definition may answer.

    Args:
        definition: the divergence of every dimension, as a plain composition.
        mean, log_variance: of one shape.
        beside: b, a number; 0 if there is none.
        beta: weight of the divergence.
        divisor: of both.
    """
    if not (may_read(mean) and mean.dtype is log_variance.dtype and mean.dtype in COMPUTED_IN):
        return None
    if not is_eager(mean, log_variance, beside) or (beside is not None and beside.dtype is not mean.dtype):
        return None
    total: Tensor = GaussianSum.apply(definition, beta, divisor, beside, mean, log_variance)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return total if math.isfinite(total.item()) else None


class GaussianSum(torch.autograd.Function):
    """The sum as one operation of autograd: of (exp(v) - 1 - v + m²) / 2, with slopes m and (exp(v) - 1) / 2. It is NaN
    where a variance is near the end of the range of its dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        definition: Divergences,
        beta: float,
        divisor: float,
        beside: Tensor | None,
        mean: Tensor,
        log_variance: Tensor,
    ) -> Tensor:
        beyond = log_variance.expm1()  # of the variance over 1, to all its digits
        divergence = (beyond - log_variance).addcmul_(mean, mean).sum().item() / 2
        ctx.definition, ctx.beta, ctx.divisor = definition, beta, divisor
        ctx.save_for_backward(beside, mean, log_variance, beyond)
        value = beta * divergence + (0.0 if beside is None else beside.item())
        within = divergence < LARGEST  # no part is below 0; NaN is no less
        return torch.scalar_tensor(value / divisor if within else math.nan, dtype=mean.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        beside, mean, log_variance, beyond = ctx.saved_tensors
        nothing, beta, divisor = (None, None, None), ctx.beta, ctx.divisor
        if is_asked_again(gradient):

            def total(*parts: Tensor) -> Tensor:
                value: Tensor = beta * ctx.definition(*parts[-2:]).sum() / divisor
                return value if beside is None else parts[0] / divisor + value

            return *nothing, *plain_gradients(total, gradient, beside, mean, log_variance)
        factor = gradient.item() if may_read(gradient) else gradient
        *_, needs_beside, needs_mean, needs_variance = ctx.needs_input_grad
        return (
            *nothing,
            gradient / divisor if needs_beside else None,
            mean * (factor * (beta / divisor)) if needs_mean else None,
            beyond * (factor * (beta / divisor / 2)) if needs_variance else None,
        )


def elbo_mean(
    formula: Formula,
    definition: Callable[[Tensor, Tensor, Tensor], Tensor],
    reconstruction: Tensor,
    target: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    weight: Tensor | None,
    *,
    beta: float,
) -> Tensor | None:
    """Return the mean over N samples, of many numbers in all, of what is reconstructed wrongly and beta times the
    divergence, made together with its gradients; ``None`` where only the definition may answer.

    Args:
        formula: what an element of the reconstruction costs, and its derivative.
        definition: from reconstruction, mean and log-variance to the same value, as a plain composition.
        reconstruction, target: of one shape ``(N, ...)``.
        mean, log_variance: of one shape ``(N, ...)``.
        weight: of every sample ``(N,)``.
        beta: weight of the divergence.
    """
    leaves = (reconstruction, mean, log_variance)
    dtype = reconstruction.dtype
    if not (may_read(reconstruction) and torch.is_grad_enabled() and is_eager(*leaves, target, weight)):
        return None
    if not (target.dtype is mean.dtype is log_variance.dtype is dtype and dtype in COMPUTED_IN):
        return None
    if target.requires_grad or not reconstruction.numel() or not any(leaf.requires_grad for leaf in leaves):
        return None
    divisor = float(len(target))
    if weight is not None:
        if weight.requires_grad or weight.dtype is not dtype or weight.ndim != 1:
            return None
        divisor = weight.sum().item()
        if not torch.finfo(dtype).tiny <= divisor < math.inf:
            return None
    of_reconstruction: Tensor | None = None
    if weight is None and reconstruction.requires_grad and formula.both and reconstruction.numel() < sizes().in_blocks:
        missed, of_reconstruction = total_and_slopes(formula, reconstruction.detach(), target, None, divisor)
    else:
        if reconstruction.requires_grad:
            of_reconstruction = gradient_like(reconstruction)
        missed = total_in_blocks(formula, reconstruction.detach(), target, weight, of_reconstruction, divisor)
    divergence, *others = gaussian_kl_and_slopes(mean.detach(), log_variance.detach(), weight, divisor, beta)
    value = (missed + beta * divergence) / divisor
    if not (math.isfinite(value) and divergence < LARGEST):  # perhaps by what has weight 0
        return None
    made: Tensor = Written.apply(value, definition, (of_reconstruction, *others), *leaves)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return made


def gaussian_kl_and_slopes(
    mean: Tensor, log_variance: Tensor, weight: Tensor | None, divisor: float, beta: float
) -> tuple[float, Tensor, Tensor]:
    """Return the sum of KL(N(mean, exp(log_variance)) ‖ N(0, 1)), and the derivatives of beta times that over the
    divisor."""
    beyond = log_variance.expm1()  # of the variance over 1, to all its digits
    items = (beyond - log_variance).addcmul_(mean, mean)
    scale = beta / divisor
    if weight is None:
        return items.sum().item() / 2, mean * scale, beyond.mul_(scale / 2)
    each = weight.reshape(-1, *[1] * (mean.ndim - 1))
    factors = each / divisor * beta  # divided first: tiny weights have a tiny sum
    return items.mul_(each).sum().item() / 2, mean * factors, beyond.mul_(factors).mul_(0.5)


def gaussian_nll_sum(
    definition: Likelihoods, mean: Tensor, log_variance: Tensor, target: Tensor, weight: Tensor | None
) -> Total | None:
    """Return the total of (v + (m - y)² exp(-v)) / 2 in few operations; ``None`` where only the definition may answer.

    Args:
        definition: the value of every element, as a plain composition.
        mean, log_variance, target: of one shape.
        weight: one per element or per leading index, and finite where it is 0 whatever it weighs; or none.
    """
    if not (may_read(mean) and mean.dtype is log_variance.dtype is target.dtype and mean.dtype in COMPUTED_IN):
        return None
    if not mean.numel() or not is_eager(mean, log_variance, target, weight):
        return None
    if target.requires_grad or (weight is not None and weight.requires_grad):
        return None
    each = None if weight is None else expanded(weight, mean.shape)
    total: Tensor = LikelihoodSum.apply(definition, mean, log_variance, target, each)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    # then neither a precision nor a squared residual times it was bounded; NaN is no less
    if not (abs(total.item()) < LARGEST and log_variance.detach().amin().item() > LEAST):
        return None
    return Total(total, mean.numel() if each is None else each.sum())


class LikelihoodSum(torch.autograd.Function):
    """The sum as one operation of autograd: with r = m - y and z = r exp(-v) of (v + r z) / 2, with slopes z and
    (1 - r z) / 2."""

    @staticmethod
    def forward(
        ctx: Any, definition: Likelihoods, mean: Tensor, log_variance: Tensor, target: Tensor, weight: Tensor | None
    ) -> Tensor:
        residual = mean - target
        slopes = log_variance.neg().exp_().mul_(residual)
        squares = residual.mul_(slopes)
        ctx.definition = definition
        ctx.save_for_backward(mean, log_variance, target, weight, slopes, squares)
        items = squares + log_variance
        return (items if weight is None else items.mul_(weight)).sum().div_(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        mean, log_variance, target, weight, slopes, squares = ctx.saved_tensors
        if is_asked_again(gradient):

            def total(mean: Tensor, log_variance: Tensor) -> Tensor:
                return weighted(ctx.definition(mean, log_variance, target), weight).sum()

            return None, *plain_gradients(total, gradient, mean, log_variance), None, None
        factor = gradient if weight is None else weight * gradient
        _, needs_mean, needs_variance, *_ = ctx.needs_input_grad
        of_mean = slopes * factor if needs_mean else None
        return None, of_mean, (1 - squares).mul_(factor / 2) if needs_variance else None, None, None


def stacked_gaussian_nll(
    mean: Tensor, log_variance: Tensor, target: Tensor, *, largest: float, constant: float
) -> Tensor:
    """Return (v + r² exp(-v)) / 2 with r = m - y, plus a constant, and the slopes r exp(-v) and (1 - r² exp(-v)) / 2 of
    any numbers, for :mod:`losses.ops.elementwise.stacked`.

    Args:
        mean, log_variance, target: of one shape.
        largest: exponent up to which a precision, and a squared residual times it, are themselves.
        constant: what is added to every value.
    """
    values, of_mean, of_variance = stack = empty_stack(mean, 2)
    residual = mean - target
    squared = residual.square()
    log_precision = -log_variance
    bounded = torch.minimum(log_precision, torch.rsub(squared.clamp(min=1).log_(), largest))
    torch.sub(log_precision, bounded, out=values)
    precision = bounded.exp_()
    torch.mul(residual, precision, out=of_mean)
    standardised = squared.mul_(precision)
    values.mul_(standardised).add_(standardised).add_(log_variance).mul_(0.5)  # above its bound along a tangent
    if constant:
        values.add_(constant)
    torch.sub(standardised, 1, out=of_variance).mul_(-0.5)
    return stack


def stacked_gaussian_kl(mean: Tensor, log_variance: Tensor, target: Tensor, *, largest: float) -> Tensor:
    """Return the divergence (exp(v) - 1 - v + m²) / 2 and its slopes m and (exp(v) - 1) / 2, likewise, of no target."""
    values, of_mean, of_variance = stack = empty_stack(mean, 2)
    below = log_variance.clamp(max=largest)
    torch.exp(below, out=of_variance)
    torch.sub(log_variance, below, out=values)
    torch.addcmul(of_variance, of_variance, values, out=values)  # exp and, above, its tangent
    values.sub_(log_variance).sub_(1).addcmul_(mean, mean).mul_(0.5)
    of_variance.sub_(1).mul_(0.5)
    of_mean.copy_(mean)
    return stack
