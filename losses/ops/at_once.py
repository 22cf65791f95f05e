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
from losses.ops.tiles.rows import by_autograd

Definition = Callable[[Tensor, Tensor], Tensor]


class ItemsAtOnce(NamedTuple):
    """A batch of items each of which depends on its own part of output and target alone."""

    definition: Definition
    """From output and target to the items."""
    output: Tensor
    target: Tensor
    weight: Tensor
    """Of every item."""
    absent: Tensor
    """Where that is 0."""
    dim: int
    """Dimension of the output that one item spans, and of the target if it has as many."""
    counts: Tensor | None = None
    """What an item of weight 1 adds to the denominator; none is 1 for each."""
    by_hand: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """From output, target and what the items are multiplied by to the items, before that, and the derivative of their
    sum by the output; where there is none, autograd finds it."""

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
        value: Tensor = SumAtOnce.apply(self, wanted, factors, self.output)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return value


def suits_at_once(output: Tensor, target: Tensor, weight: Tensor | None) -> bool:
    """Return whether a batch may be summed so: where every operation is a launch, and nobody wants a derivative by
    something else than the output."""
    if weight is None or not is_launched(output, target, weight):
        return False
    return not (target.requires_grad or weight.requires_grad)


def items_at_once(
    definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None, dim: int
) -> ItemsAtOnce | None:
    """Return a batch that :func:`suits_at_once`, its weight one for each item or leading index; else ``None``."""
    if weight is None or not suits_at_once(output, target, weight):
        return None
    dim %= output.ndim
    weight = expanded(weight, output.shape[:dim] + output.shape[dim + 1 :])
    return ItemsAtOnce(definition, output, target, weight, weight == 0, dim)


def rows_at_once(
    definition: Definition, logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None = None
) -> ItemsAtOnce | None:
    """Return likewise one of logits ``(N, C, ...)`` against class indices ``(N, ...)``, of which one may be of those
    that do not count; what has weight 0 may have any."""
    if weight is None or not suits_at_once(logits, target, weight):
        return None
    weight = expanded(weight, target.shape)
    if ignore_index is not None:
        weight = weight.masked_fill(target == ignore_index, 0)
    absent = weight == 0
    return ItemsAtOnce(definition, logits, target.masked_fill(absent, 0), weight, absent, dim=1)


class SumAtOnce(torch.autograd.Function):
    """The sum of items times factors as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, batch: ItemsAtOnce, wanted: bool, factors: Tensor, output: Tensor) -> Tensor:
        definition, target, absent = batch.definition, batch.target, batch.absent
        if batch.by_hand is None or not wanted:
            items, gradients = by_autograd(lambda output: definition(output, target), [output], factors, wanted=wanted)
        else:
            items, slopes = batch.by_hand(output, target, factors)
            gradients = (slopes,)
        ctx.definition, ctx.dim = definition, batch.dim
        ctx.save_for_backward(output, target, factors, absent, *gradients)
        return (items * factors).masked_fill_(absent, 0).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        output, target, factors, absent, of_output = ctx.saved_tensors
        beside = absent.unsqueeze(ctx.dim)
        if is_asked_again(gradient):
            if target.ndim == output.ndim:
                target = target.masked_fill(beside, 0)
            factors = factors.masked_fill(absent, 0)

            def plain_sum(output: Tensor) -> Tensor:
                return total_of(ctx.definition(output.masked_fill(beside, 0), target), factors).sum

            return None, None, None, *plain_gradients(plain_sum, gradient, output)
        return None, None, None, (of_output * gradient).masked_fill_(beside, 0)
