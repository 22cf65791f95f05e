"""Losses with one item per element: predictions, scores and binary logits against targets of the same shape."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import SymInt, Tensor

from losses.core.inputs.kind import Kind, masked
from losses.core.loss import Loss
from losses.core.reduction import Total, expanded, hides_nothing, total_of
from losses.ops.elementwise.blocks import suits_blocks, sum_in_blocks
from losses.ops.elementwise.formulas import Formula


class ElementwiseLoss(Loss):
    """A loss whose items are the elements of one tensor: :meth:`items` returns a value for each.

    Two methods make it faster, and the contract proves both equal to the items:

    - :meth:`fused`, where torch has a fused function for the plain mean and sum;
    - :meth:`block_formula`, value and derivative of an element: with it sums over many elements are made in blocks that
      stay in a cache, weighted ones too.
    """

    @abstractmethod
    def items(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of every element, in the shape of the output."""

    def fused(self, output: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        """Return the plain ``"mean"`` or ``"sum"`` of a batch, or with ``"none"`` its items, by a fused function of
        torch; ``None`` where it has none."""
        return None

    def block_formula(self) -> Formula | None:
        """Return value and derivative of an element, written into buffers; ``None`` where there are only the items.

        It is differentiated by the output alone: a loss that learns parameters of its own has none.
        """
        return None

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if not self._counts_elements() or (weight is not None and not self._hides_with_zeros()):
            return None
        formula = self._formula_for(output, target, weight)
        if formula is not None:
            total = sum_in_blocks(formula, self.items, output, target, weight)
            return Total(total, output.numel() if weight is None else expanded(weight, output.shape).sum())
        if weight is not None:
            return self._weighted_total(output, target, weight)
        fused = self.fused(output, target, "sum")
        return None if fused is None else Total(fused, output.numel())

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        number = output.numel()
        if isinstance(number, SymInt) or not number:  # torch's mean of nothing is NaN
            return None
        if not self._counts_elements() or self._formula_for(output, target, None) is not None:
            return None
        fused = self.fused(output, target, "mean")
        return self.items(output, target).mean() if fused is None else fused

    def hides_by_itself(self, output: Any, target: Any, weight: Tensor) -> bool:
        return self.reduction != "none" and self._counts_elements() and self._hides_with_zeros()

    def _hides_with_zeros(self) -> bool:
        """Return whether 0 stands for what has weight 0, as is usual; a kind of input may have other numbers for it."""
        return all(type(kind).mask is Kind.mask for kind in self.spec.inputs)

    def _formula_for(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Formula | None:
        """Return the formula to sum a batch by in blocks, if that is worth while."""
        has_fused = type(self).fused is not ElementwiseLoss.fused
        return self.block_formula() if suits_blocks(output, target, weight, fused=has_fused) else None

    def _counts_elements(self) -> bool:
        """Return whether a weight is of an element and an element counts as 1 in the mean, as is usual."""
        cls = type(self)
        return cls.item_weights is Loss.item_weights and cls.denominators is Loss.denominators

    def _weighted_total(self, output: Tensor, target: Tensor, weight: Tensor) -> Total:
        """Return the total of a batch that was not masked yet."""
        weight = expanded(weight, output.shape)
        all_count = hides_nothing(weight)
        if not all_count:
            output, target = masked(output, weight), masked(target, weight)
        items = self.fused(output, target, "none")
        if items is None:
            items = self.items(output, target)
        if not all_count:
            return total_of(items, weight)
        if items.ndim != 1:
            items, weight = items.reshape(-1), weight.reshape(-1)
        return Total(torch.dot(items, weight), weight.sum())
