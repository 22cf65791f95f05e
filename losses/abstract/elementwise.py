"""Losses with one item per element: predictions, scores and binary logits against targets of the same shape."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import SymInt, Tensor
from torch.compiler import is_compiling

from losses.core.device import on_cpu
from losses.core.inputs.kind import Kind, masked
from losses.core.inputs.predictions import Pointwise, Scores
from losses.core.inputs.regression import Counts
from losses.core.loss import Loss
from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total, expanded, hides_nothing, require_weight_fits, total_of
from losses.core.torch_private import may_read
from losses.ops.elementwise.arrays import suits_arrays
from losses.ops.elementwise.blocks import mean_in_blocks, mean_in_one_piece, suits_blocks, sum_in_blocks
from losses.ops.elementwise.element_arrays import ArrayFormula, mean_of_few_elements
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.stacked import StackedBatch
from losses.ops.tiles.sizes import sizes


class ElementwiseLoss(Loss):
    """A loss whose items are the elements of one tensor: :meth:`items` returns a value for each.

    Three methods make it faster, and the contract proves all equal to the items:

    - :meth:`fused`, where torch has a fused function for the plain mean and sum;
    - :meth:`block_formula`, value and derivative of an element: with it sums over many elements are made in blocks that
      stay in a cache, weighted ones too;
    - :meth:`array_formula`, the same in NumPy, for means over a few elements.
    """

    many_operations: ClassVar[bool] = False
    """Whether items, or what torch has for them, take so many operations that blocks are worth while for a few thousand
    elements too."""

    long_fused: ClassVar[bool] = False
    """Whether what torch has for the plain mean takes so many operations that blocks are worth while for fewer elements
    than beside one that makes no temporaries."""

    def __init__(self) -> None:
        super().__init__()
        cls = type(self)
        self._has_fused = cls.fused is not ElementwiseLoss.fused
        self._has_formula = cls.block_formula is not ElementwiseLoss.block_formula
        self._has_arrays = cls.array_formula is not ElementwiseLoss.array_formula
        # a weight is of an element, and an element counts as 1 in the mean
        self._counts_elements = cls.item_weights is Loss.item_weights and cls.denominators is Loss.denominators
        as_is = all(type(kind).accept in (Pointwise.accept, Scores.accept, Counts.accept) for kind in self.spec.inputs)
        is_usual = cls.inputs is Loss.inputs and cls.fast_mean is ElementwiseLoss.fast_mean
        self._goes_direct = self._goes_direct and as_is and is_usual and self._counts_elements
        # 0 stands for what has weight 0; a kind of input may have other numbers for it
        self._hides_with_zeros = all(type(kind).mask is Kind.mask for kind in self.spec.inputs)

    @property
    def sums_elements(self) -> bool:
        """Whether its total is the sum over elements by its formula, of which each counts as 1."""
        return self._has_formula and self._counts_elements

    @abstractmethod
    def items(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of every element, in the shape of the output."""

    def fused(self, output: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        """Return the plain ``"mean"`` or ``"sum"`` of a batch, or with ``"none"`` its items, by a fused function of
        torch; ``None`` where it has none."""
        return None

    def block_formula(self) -> Formula | None:
        """Return value and derivative of an element, written into buffers; ``None`` where there are only the items.

        It is differentiated by the output alone: a loss that learns parameters of its own has none. Where an item is
        finite its derivative has to be finite too, so that what has weight 0 need not be hidden there.
        """
        return None

    def array_formula(self) -> ArrayFormula | None:
        """Return value and derivative of an element in NumPy, whose operations cost less to call; worth while where the
        plain composition takes many. What is said of :meth:`block_formula` holds."""
        return None

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if not self._counts_elements or (weight is not None and not self._hides_with_zeros):
            return None
        formula = self._formula_for(output, target, weight)
        if formula is not None:
            total = sum_in_blocks(formula, self.items, output, target, weight)
            return Total(total, output.numel() if weight is None else expanded(weight, output.shape).sum())
        launched = None if on_cpu(output) else self._launched(output, target, weight)
        if launched is not None:
            return launched.total()
        if weight is not None:
            return self._weighted_total(output, target, weight)
        fused = self.fused(output, target, "sum")
        return None if fused is None else Total(fused, output.numel())

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        number = output.numel()
        if isinstance(number, SymInt) or not number:  # torch's mean of nothing is NaN
            return None
        if not self._counts_elements:
            return None
        if not is_compiling():  # it would ask again, before every call, all that is asked here
            mean = self._mean_in_one_piece(output, target, None)
            if mean is None:
                mean = self._mean_of_few(output, target, None)
            if mean is not None:
                return mean
            formula = self._formula_for(output, target, None) if number >= sizes().fewest_in_blocks else None
            if formula is not None:
                return mean_in_blocks(formula, self.items, output, target)
            launched = None if on_cpu(output) else self._launched(output, target, None)
            if launched is not None:
                return launched.mean()
        fused = self.fused(output, target, "mean") if self._has_fused else None
        if fused is None and self.many_operations and output.dtype in COMPUTED_IN:
            formula = self.block_formula()
            fused = None if formula is None else mean_in_one_piece(formula, self.items, output, target)
        return self.items(output, target).mean() if fused is None else fused

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        dtype = output.dtype
        if dtype is not target.dtype or output.shape != target.shape or dtype not in COMPUTED_IN:
            return None
        if weight is None:
            return self.fast_mean(output, target)
        as_is = isinstance(weight, Tensor) and weight.dtype is dtype
        return self.fast_weighted_mean(output, target, weight) if as_is else None

    def traced_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        dtype = output.dtype
        if dtype is not target.dtype or output.shape != target.shape or not output.numel():
            return None
        # written out: what is read from a module is asked again before every call
        return self.fused(output, target, "mean") if dtype.is_floating_point and dtype.itemsize >= 4 else None

    def fast_weighted_mean(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if not (self._has_formula and self._counts_elements and self._hides_with_zeros):
            return None
        if not may_read(output):
            launched = None if on_cpu(output) else self._launched(output, target, weight)
            return None if launched is None else launched.mean()
        mean = self._mean_in_one_piece(output, target, weight)
        if mean is None:
            mean = self._mean_of_few(output, target, weight)
        if mean is not None:
            return mean
        formula = self._formula_for(output, target, weight)
        if formula is not None:
            return mean_in_blocks(formula, self.items, output, target, weight)
        if weight.requires_grad:
            return None
        total, whole = self._plain_total(output, target, weight)
        mean = total / whole
        # then items and their derivatives are finite, and weights of 0 make 0 of them
        return mean if math.isfinite(mean.item()) and whole.item() >= torch.finfo(whole.dtype).tiny else None

    def hides_by_itself(self, output: Any, target: Any, weight: Tensor) -> bool:
        return self.reduction != "none" and self._counts_elements and self._hides_with_zeros

    def _formula_for(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Formula | None:
        """Return the formula to sum a batch by in blocks, if that is worth while."""
        if not self._has_formula or output.dtype not in COMPUTED_IN:
            return None
        fused = self._has_fused and not self.many_operations
        if not suits_blocks(output, target, weight, fused=fused, long=self.many_operations or self.long_fused):
            return None
        return self.block_formula()

    def _mean_of_few(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor | None:
        """Return the mean of few elements by a formula in NumPy."""
        if not self._has_arrays or not suits_arrays(output, target, weight):
            return None
        if output.numel() >= sizes().in_blocks_long:
            return None
        formula = self.array_formula()
        return None if formula is None else mean_of_few_elements(formula, self.items, output, target, weight)

    def _mean_in_one_piece(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor | None:
        """Return the mean of too few elements for blocks, if the plain composition makes many temporaries."""
        if not sizes().in_one_piece <= output.numel() < sizes().in_blocks:
            return None
        short = self._has_fused and not (self.long_fused or self.many_operations)
        if short or output.dtype not in COMPUTED_IN:
            return None
        formula = self.block_formula()
        return None if formula is None else mean_in_one_piece(formula, self.items, output, target, weight)

    def _launched(self, output: Tensor, target: Tensor, weight: Tensor | None) -> StackedBatch | None:
        """Return what sums a batch up where every operation is a launch, if it takes fewer of them so."""
        are_few = weight is None and not self.many_operations  # which autograd does with less of Python
        formula = None if are_few or not self._has_formula else self.block_formula()
        return None if formula is None else formula.launched(self.items, output, target, weight)

    def _weighted_total(self, output: Tensor, target: Tensor, weight: Tensor) -> Total:
        """Return the total of a batch that was not masked yet."""
        if hides_nothing(weight):
            return Total(*self._plain_total(output, target, weight))
        weight = expanded(weight, output.shape)
        return total_of(self._fast_items(masked(output, weight), masked(target, weight)), weight)

    def _plain_total(self, output: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of items, of which none is hidden, and that of the weights."""
        items = self._fast_items(output, target)
        if weight.shape == items.shape:
            whole = weight.sum()
            return torch.dot(items, weight) if items.ndim == 1 else (items * weight).sum(), whole
        require_weight_fits(weight, items.shape)
        each = items.flatten(weight.ndim).sum(-1)
        return (each * weight).sum(), weight.sum() * (items.numel() // max(1, weight.numel()))

    def _fast_items(self, output: Tensor, target: Tensor) -> Tensor:
        items = self.fused(output, target, "none") if self._has_fused else None
        return self.items(output, target) if items is None else items
