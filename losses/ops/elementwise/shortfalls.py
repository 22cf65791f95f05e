"""Sums over rows of how far the right score falls short of leading each of the others, with the gradient by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total, expanded
from losses.core.torch_private import may_read, operation
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.fused import REDUCTIONS
from losses.ops.elementwise.rows import Definition, RowBlock, RowFormula, RowLayout, sum_over_rows

BACKWARD = operation("multi_margin_loss_backward")
FEW = 1 << 8
"""Rows up to which torch's function, which adds them up one after the other, is as exact."""


class Shortfalls(RowFormula):
    r"""The sum over the other classes of :math:`\max(0, s_c - s_t + m)^p`, for rows of scores :math:`s`.

    Args:
        target: class indices ``(N, P)``.
        definition: the same as a plain composition.
        margin, power: m and p.
    """

    buffers = 2

    def __init__(self, target: Tensor, definition: Definition, margin: float, power: int) -> None:
        super().__init__(target.unsqueeze(1), lambda scores, target: definition(scores, target.squeeze(1)))
        self.margin, self.power = margin, power

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        index, short = block.of(self.target), block.buffer(0)
        torch.sub(block.scores, block.scores.gather(1, index), out=short)
        short.add_(self.margin).clamp_(min=0).scatter_(1, index, 0)
        costs = short if self.power == 1 else torch.mul(short, short, out=block.buffer(1))
        values = costs.sum(1, keepdim=True)
        if block.gradient is not None:
            if self.power == 1:
                short.sign_().mul_(slopes)
            else:
                short.mul_(2 * slopes)
            short.scatter_(1, index, short.sum(1, keepdim=True).neg_())
        return values


def total_of_shortfalls(
    definition: Definition,
    scores: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    margin: float,
    power: int,
    mean: bool = False,
) -> Total:
    """Return the total of all rows that :func:`has_fast_rows`; for the ``mean`` its sum is divided already.

    Args:
        definition: from scores and indices to all items, as a plain composition.
        scores: ``(N, C, ...)``.
        target: class indices ``(N, ...)``.
        weight: one for each item or leading index.
        margin, power: of the loss.
        mean: divide by the denominator.
    """
    layout = RowLayout(scores)
    formula = Shortfalls(layout.of_positions(target), definition, margin, power)
    denominator = target.numel() if weight is None else expanded(weight, target.shape).sum()
    by_position = None if weight is None else layout.of_positions(weight)
    divisor = float(denominator) if mean else None
    return Total(sum_over_rows(formula, layout.of_classes(scores), by_position, divisor=divisor), denominator)


def mean_of_few_shortfalls(
    definition: Definition, scores: Tensor, target: Tensor, *, margin: float, power: int
) -> Tensor | None:
    """Return the plain mean of a few rows ``(N, C)`` by torch's function; ``None`` where it would not be the same, as
    of NaN, or nobody asks for its gradient."""
    if not (may_read(scores) and scores.ndim == 2 and 0 < len(scores) <= FEW and scores.dtype in COMPUTED_IN):
        return None
    if BACKWARD is None or not (torch.is_grad_enabled() and scores.requires_grad and is_eager(scores, target)):
        return None
    if not math.isfinite(scores.detach().sum().item()):
        return None
    mean: Tensor = FewShortfalls.apply(definition, scores, target, margin, power)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return mean


class FewShortfalls(torch.autograd.Function):
    """The mean by torch's function, which has no second derivative of its own."""

    @staticmethod
    def forward(ctx: Any, definition: Definition, scores: Tensor, target: Tensor, margin: float, power: int) -> Tensor:
        ctx.definition, ctx.parameters = definition, (power, margin)
        ctx.save_for_backward(scores, target)
        return F.multi_margin_loss(scores, target, power, margin).mul_(scores.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        scores, target = ctx.saved_tensors
        if is_asked_again(gradient):
            (found,) = plain_gradients(lambda scores: ctx.definition(scores, target).mean(), gradient, scores)
        else:
            assert BACKWARD is not None  # as it was in forward
            found = BACKWARD(
                gradient * scores.shape[1], scores, target, *ctx.parameters, None, REDUCTIONS.index("mean")
            )
        return None, found, None, None, None
