"""Weighted sums of items with their gradient taken on the way, where every operation is a launch: what has weight 0 is
hidden in what was computed, in place of a copy of the batch before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.reduction import Total, expanded, total_of
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_launched

Definition = Callable[[Tensor, Tensor], Tensor]


class Weighed(NamedTuple):
    """A batch of items each of which depends on its own part of output and target alone."""

    definition: Definition
    """From output and target to the items."""
    output: Tensor
    target: Tensor
    weight: Tensor
    """Of every item."""
    dim: int
    """Dimension of the output that one item spans, and of the target if it has as many."""
    counts: Tensor | None = None
    """What an item of weight 1 adds to the denominator; none is 1 for each."""

    def mean(self) -> Tensor:
        """Return sum(w l) / sum(w c), differentiable by the output; 0 where nothing has any weight."""
        denominator = self._denominator()
        if self.counts is not None:  # an item that counts as 0 has a weight
            denominator.masked_fill_(denominator < torch.finfo(denominator.dtype).tiny, torch.inf)
        return self._sum(self.weight / denominator)

    def total(self) -> Total:
        """Return sum(w l) and sum(w c)."""
        return Total(self._sum(self.weight), self._denominator())

    def _denominator(self) -> Tensor:
        return (self.weight if self.counts is None else self.weight * self.counts).sum()

    def _sum(self, factors: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled() and self.output.requires_grad  # inside of a Function it never is
        value: Tensor = WeighedSum.apply(self, wanted, factors, self.output)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return value


def can_be_weighed(output: Tensor, target: Tensor, weight: Tensor | None) -> bool:
    """Return whether a batch may be summed so: where every operation is a launch, and nobody wants a derivative by
    something else than the output."""
    if weight is None or not is_launched(output, target, weight):
        return False
    return not (target.requires_grad or weight.requires_grad)


def weighed(definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None, dim: int) -> Weighed | None:
    """Return a batch that :func:`can_be_weighed`, its weight one for each item or leading index; else ``None``."""
    if weight is None or not can_be_weighed(output, target, weight):
        return None
    dim %= output.ndim
    weight = expanded(weight, output.shape[:dim] + output.shape[dim + 1 :])
    return Weighed(definition, output, target, weight, dim)


def weighed_rows(
    definition: Definition, logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None = None
) -> Weighed | None:
    """Return likewise one of logits ``(N, C, ...)`` against class indices ``(N, ...)``, of which one may be of those
    that do not count; what has weight 0 may have any."""
    if weight is None or not can_be_weighed(logits, target, weight):
        return None
    weight = expanded(weight, target.shape)
    if ignore_index is not None:
        weight = weight.masked_fill(target == ignore_index, 0)
    return Weighed(definition, logits, target.masked_fill(weight == 0, 0), weight, dim=1)


class WeighedSum(torch.autograd.Function):
    """The sum of items times factors as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, batch: Weighed, wanted: bool, factors: Tensor, output: Tensor) -> Tensor:
        absent, gradient = batch.weight == 0, None
        with torch.set_grad_enabled(wanted):
            own = output.detach().requires_grad_(wanted)
            items = batch.definition(own, batch.target)
        if wanted:
            (gradient,) = torch.autograd.grad(items, own, factors)
        ctx.definition, ctx.dim = batch.definition, batch.dim
        ctx.save_for_backward(output, batch.target, factors, absent, gradient)
        return (items.detach() * factors).masked_fill_(absent, 0).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        output, target, factors, absent, of_output = ctx.saved_tensors
        hidden = absent.unsqueeze(ctx.dim)
        if is_asked_again(gradient):
            if target.ndim == output.ndim:
                target = target.masked_fill(hidden, 0)
            factors = factors.masked_fill(absent, 0)

            def plain_sum(output: Tensor) -> Tensor:
                return total_of(ctx.definition(output.masked_fill(hidden, 0), target), factors).sum

            return None, None, None, *plain_gradients(plain_sum, gradient, output)
        return None, None, None, (of_output * gradient).masked_fill_(hidden, 0)
