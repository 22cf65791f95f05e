"""Losses with one item per element: predictions, scores and binary logits against targets of the same shape."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import SymInt, Tensor

from losses.core.loss import Loss
from losses.core.reduction import Total, expanded
from losses.ops.elementwise.blocks import suits_blocks, sum_in_blocks
from losses.ops.elementwise.formulas import Formula


class ElementwiseLoss(Loss):
    """A loss whose items are the elements of one tensor: :meth:`items` returns a value for each.

    Two methods make it faster, and the contract proves both equal to the items:

    - :meth:`fused`, where torch has a fused function for the plain mean and sum;
    - :meth:`formula`, value and derivative of an element: with it sums over many elements are made in blocks that stay
      in a cache, weighted ones too.
    """

    @abstractmethod
    def items(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of every element, in the shape of the output."""

    def fused(self, output: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        """Return the plain ``"mean"`` or ``"sum"`` of a batch by a fused function of torch; ``None`` where it has
        none."""
        return None

    def formula(self) -> Formula | None:
        """Return value and derivative of an element, written into buffers; ``None`` where there are only the items."""
        return None

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        formula = self.formula()
        if formula is not None and suits_blocks(output, target, weight):
            total = sum_in_blocks(formula, self.items, output, target, weight)
            return Total(total, output.numel() if weight is None else expanded(weight, output.shape).sum())
        fused = self.fused(output, target, "sum") if weight is None else None
        return None if fused is None else Total(fused, output.numel())

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        number = output.numel()
        if not number or isinstance(number, SymInt):  # torch's mean of nothing is NaN
            return None
        if suits_blocks(output, target) and self.formula() is not None:
            return None
        fused = self.fused(output, target, "mean")
        return self.items(output, target).mean() if fused is None else fused

    def hides_by_itself(self, output: Any, target: Any, weight: Tensor) -> bool:
        if self.reduction == "none" or not suits_blocks(output, target, weight):
            return False
        return self.formula() is not None
