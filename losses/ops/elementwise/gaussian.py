"""The divergence of diagonal Gaussians from the standard one, summed, with its derivative by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses.core.precision import COMPUTED_IN
from losses.core.torch_private import may_read
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_eager

Divergences = Callable[[Tensor, Tensor], Tensor]
LARGEST = 1e20
"""Of a sum that tells that no variance in it was near the end of the range of its dtype."""


def gaussian_kl_sum(definition: Divergences, mean: Tensor, log_variance: Tensor) -> Tensor | None:
    """Return the sum of KL(N(mean, exp(log_variance)) ‖ N(0, 1)) in few operations; ``None`` where only the definition
    may answer.

    Args:
        definition: the divergence of every dimension, as a plain composition.
        mean, log_variance: of one shape.
    """
    if not (may_read(mean) and mean.dtype is log_variance.dtype and mean.dtype in COMPUTED_IN):
        return None
    if not is_eager(mean, log_variance):
        return None
    total: Tensor = GaussianSum.apply(definition, mean, log_variance)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return total if total.item() < LARGEST else None  # no part is below 0; NaN is no less


class GaussianSum(torch.autograd.Function):
    """The sum as one operation of autograd: of (exp(v) - 1 - v + m²) / 2, with slopes m and (exp(v) - 1) / 2."""

    @staticmethod
    def forward(ctx: Any, definition: Divergences, mean: Tensor, log_variance: Tensor) -> Tensor:
        beyond = log_variance.expm1()  # of the variance over 1, to all its digits
        ctx.definition = definition
        ctx.save_for_backward(mean, log_variance, beyond)
        return (beyond - log_variance).addcmul_(mean, mean).sum().div_(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        mean, log_variance, beyond = ctx.saved_tensors
        if is_asked_again(gradient):

            def total(mean: Tensor, log_variance: Tensor) -> Tensor:
                value: Tensor = ctx.definition(mean, log_variance).sum()
                return value

            return None, *plain_gradients(total, gradient, mean, log_variance)
        _, needs_mean, needs_variance = ctx.needs_input_grad
        of_mean = mean * gradient if needs_mean else None
        return None, of_mean, beyond * (gradient / 2) if needs_variance else None
