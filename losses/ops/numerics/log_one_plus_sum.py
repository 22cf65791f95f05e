"""Logarithm of one plus a sum of exponentials, in as few passes over memory as there can be."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.ops.derivatives import plain_gradients
from losses.ops.eager import is_eager


def log_one_plus_sum(values: Tensor, scale: float = 1.0, base: float = 0.0) -> Tensor:
    """Return log(1 + sum(exp(scale (values - base)))) over the last dimension ``(N, M)``, finite for any finite values;
    where an exponent is -inf it adds nothing, in value and in gradient."""
    if values.requires_grad and torch.is_grad_enabled() and is_eager(values):
        result: Tensor = Fused.apply(values, scale, base)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return result
    return definition(values, scale, base)


def definition(values: Tensor, scale: float, base: float) -> Tensor:
    """Return the same as a plain composition."""
    exponents = scale * (values - base)
    top = exponents.detach().amax(-1, keepdim=True).clamp(min=0)  # any constant would do: it has no derivative
    return top.squeeze(-1) + ((-top).exp().squeeze(-1) + (exponents - top).exp().sum(-1)).log()


class Fused(torch.autograd.Function):
    """The same with one array of its size, which is the derivative up to a factor of its row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float, base: float) -> Tensor:
        extreme = values.amax(-1, keepdim=True) if scale > 0 else values.amin(-1, keepdim=True)
        top = (extreme - base).mul_(scale).clamp_(min=0)
        terms = torch.add(-top - scale * base, values, alpha=scale).exp_()
        whole = terms.sum(-1, keepdim=True).add_((-top).exp())
        ctx.scale, ctx.base = scale, base
        ctx.save_for_backward(values, terms, whole)
        return (whole.log() + top).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        values, terms, whole = ctx.saved_tensors
        if torch.is_grad_enabled():  # several at once can be had of what was saved
            return *plain_gradients(partial(definition, scale=ctx.scale, base=ctx.base), gradient, values), None, None
        return terms * (gradient.unsqueeze(-1) * ctx.scale / whole), None, None
