"""Sums over rows of what is a function of the surprise -log p at the class of the target, with the gradient by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses.core.reduction import Total, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_launched
from losses.ops.elementwise.rows import (
    Definition,
    RowBlock,
    RowFormula,
    RowLayout,
    are_wide,
    shifted,
    softmax_in_place,
    sum_over_rows,
)
from losses.ops.numerics.nll import surprises

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From surprises to the values of a loss and their derivatives."""


class OfSurprise(RowFormula):
    r"""A function :math:`f(u)` of the surprise :math:`u = \log \sum_c e^{z_c - z_t}` of rows of logits :math:`z`, with
    the derivative :math:`f'(u) (p_c - [c = t])`.

    Args:
        target: class indices ``(N, P)``.
        counted: what a row's value is multiplied by ``(N, P)``, 0 where it is ignored.
        definition: the same as a plain composition.
        function: of the surprise.
    """

    buffers = 1

    def __init__(self, target: Tensor, counted: Tensor, definition: Definition, function: Function) -> None:
        super().__init__(target.unsqueeze(1), lambda scores, target: definition(scores, target.squeeze(1)))
        self.index = target.masked_fill(counted == 0, 0).unsqueeze(1)
        self.counted, self.function = counted.unsqueeze(1), function

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        index, counted, exponentials = block.of(self.index), block.of(self.counted), block.buffer(0)
        surprise, total = self._of_wide_rows(block, index) or self._of_rows(block, index)
        values, slope = self.function(surprise)
        if block.gradient is not None:
            slope = slope * counted * slopes
            exponentials.mul_(slope if total is None else slope / total).scatter_add_(1, index, slope.neg_())
        return values * counted

    def takes_softmax(self, scores: Tensor) -> bool:
        return are_wide(scores)

    def _of_rows(self, block: RowBlock, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the surprises and what makes probabilities of the exponentials that are left in the buffer."""
        exponentials = block.buffer(0)
        shifted(block.scores, exponentials)
        right = exponentials.gather(1, index)
        total = exponentials.exp_().sum(1, keepdim=True)
        return total.log().sub_(right), total

    def _of_wide_rows(self, block: RowBlock, index: Tensor) -> tuple[Tensor, None] | None:
        """Return the surprises, and leave probabilities in the buffer, where torch's softmax makes them in fewer passes
        and none is so small that its logarithm would be that of few digits."""
        if block.gradient is None or not are_wide(block.scores):
            return None
        right = softmax_in_place(block, index)
        return None if right is None else (right.log_().neg_(), None)


def total_of_surprises(
    function: Function,
    definition: Definition,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    counted: Tensor,
    factors: Tensor | None = None,
    *,
    mean: bool = False,
) -> Total:
    """Return the total of a loss of logits ``(N, C, ...)`` and class indices by blocks of rows, which
    :func:`has_fast_rows`; for the ``mean`` its sum is divided already.

    Args:
        function: of the surprise, for a value and its derivative.
        definition: from logits and indices to all items, as a plain composition.
        logits: ``(N, C, ...)``.
        target: class indices ``(N, ...)``.
        weight: one for each item or leading index.
        counted: what an item adds to the denominator ``(N, ...)``, 0 where it is ignored.
        factors: what its value is multiplied by ``(N, ...)``, where that is something else.
        mean: divide by the denominator.
    """
    layout = RowLayout(logits)
    rows, by_position = layout.of_classes(logits), None if weight is None else layout.of_positions(weight)
    own = counted if factors is None else counted * factors
    formula = OfSurprise(layout.of_positions(target), layout.of_positions(own), definition, function)
    denominator = (counted if weight is None else weighted(counted, weight)).sum()
    divisor = float(denominator) if mean else None
    return Total(sum_over_rows(formula, rows, by_position, divisor=divisor), denominator)


def mean_of_launches(
    function: Function, definition: Callable[[Tensor], Tensor], logits: Tensor, target: Tensor, ignore_index: int
) -> Tensor | None:
    """Return the mean over rows of logits ``(N, C, ...)`` that are not ignored, where every operation is a launch; else
    ``None``.

    Args:
        function: of the surprise, for a value, 0 at 0, and its derivative.
        definition: of the surprise, for the value alone.
        logits: ``(N, C, ...)``.
        target: class indices ``(N, ...)``.
        ignore_index: target of rows that do not count.
    """
    if not is_launched(logits, target):
        return None
    surprise = surprises(logits.log_softmax(1), target, ignore_index)
    items: Tensor = Differentiated.apply(function, definition, surprise)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return items.sum() / (target != ignore_index).sum().clamp_(min=1)


class Differentiated(torch.autograd.Function):
    """A function of surprises, whose derivative is made with it."""

    @staticmethod
    def forward(ctx: Any, function: Function, definition: Callable[[Tensor], Tensor], surprise: Tensor) -> Tensor:
        values, slopes = function(surprise)
        ctx.definition = definition
        ctx.save_for_backward(surprise, slopes)
        return values.clone() if values is surprise else values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        surprise, slopes = ctx.saved_tensors
        if is_asked_again(gradient):
            return None, None, *plain_gradients(ctx.definition, gradient, surprise)
        return None, None, gradient * slopes


def all_count(target: Tensor, ignore_index: int) -> bool:
    """Return whether there are targets and none is ignored, where that may be read."""
    return may_read(target) and target.numel() > 0 and not bool((target == ignore_index).any())
