"""Losses with one item per element: predictions, scores and binary logits against targets of the same shape."""

from __future__ import annotations

from abc import abstractmethod

from torch import SymInt, Tensor

from losses.core.loss import Loss
from losses.core.reduction import Total


class ElementwiseLoss(Loss):
    """A loss whose items are the elements of one tensor: :meth:`items` returns a value for each.

    Where torch has a fused function for the plain mean and sum, :meth:`fused` calls it; the contract proves it equal.
    """

    @abstractmethod
    def items(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of every element, in the shape of the output."""

    def fused(self, output: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        """Return the plain ``"mean"`` or ``"sum"`` of a batch by a fused function of torch; ``None`` where it has
        none."""
        return None

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.fused(output, target, "sum") if weight is None else None
        return None if total is None else Total(total, output.numel())

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        number = output.numel()
        if not number or isinstance(number, SymInt):  # torch's mean of nothing is NaN
            return None
        return self.fused(output, target, "mean")
