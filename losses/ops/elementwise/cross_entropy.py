"""Cross-entropy of rows of logits: value and derivative of a block, against class indices or probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.ops.elementwise.rows import (
    Definition,
    RowBlock,
    RowFormula,
    are_wide,
    has_fast_rows,
    shifted,
    softmax_in_place,
    subtract_multiple,
)
from losses.ops.numerics.softmax import WIDE
from losses.ops.tiles.sizes import sizes

NEAR = 64
"""How far from 0 the logit of the right class may be for the sum of its row to lose no digits that count."""


class Options(NamedTuple):
    """What may be added to a cross-entropy."""

    class_weight: Tensor | None
    """One number for each class."""
    label_smoothing: float
    """Fraction of the probability that all classes get alike."""
    z_loss: float
    """Factor of the squared log-partition."""


class IndexCrossEntropy(RowFormula):
    r"""Cross-entropy against class indices.

    With :math:`p` the softmax of the logits :math:`z`, :math:`Z = \log \sum_c e^{z_c}` and what a class costs
    :math:`a_c = (1 - s)\, w_c\, [c = t] + s\, w_c / C`, a row is :math:`\sum_c a_c (Z - z_c) + \zeta\, w_t Z^2`, and
    its derivative :math:`(\sum_k a_k + 2 \zeta\, w_t Z)\, p_c - a_c`. Rows that are ignored have :math:`a = w_t = 0`.

    Args:
        target: class indices ``(N, P)``.
        counted: the weight of the target's class ``(N, P)``, 0 where it is ignored.
        present: which rows are not ignored ``(N, P)``.
        definition: the same as a plain composition.
        classes: how many there are.
        options: what is added.
    """

    buffers = 1

    def __init__(
        self,
        target: Tensor,
        counted: Tensor,
        present: Tensor,
        definition: Definition,
        classes: int,
        options: Options,
    ) -> None:
        super().__init__(target.unsqueeze(1), lambda scores, target: definition(scores, target.squeeze(1)))
        self.index = target.masked_fill(~present, 0).unsqueeze(1)
        class_weight, label_smoothing, z_loss = options
        self.own = (counted * (1 - label_smoothing)).unsqueeze(1)
        self.whole = self.own
        self.everywhere: Tensor | None = None
        if label_smoothing:
            self.everywhere = (present.to(counted.dtype) * (label_smoothing / classes)).unsqueeze(1)
            self.whole = self.own + self.everywhere * (classes if class_weight is None else class_weight.sum())
        self.penalty = z_loss * counted.unsqueeze(1) if z_loss else None
        self.class_weight = class_weight

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        if block.gradient is not None and are_wide(block.scores):
            index = block.of(self.index)
            right = softmax_in_place(block, index) if self._is_near(block.scores, index) else None
            if right is not None:
                return self._values_of_softmax(block, right, slopes)
        return self._values(block, slopes)

    def takes_softmax(self, scores: Tensor) -> bool:
        return are_wide(scores) and len(scores) > 0 and self._is_near(scores, self.index)

    def _values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        logits, index, own, slope = block.buffer(0), block.of(self.index), block.of(self.own), block.of(self.whole)
        largest = shifted(block.scores, logits)
        cost = own * logits.gather(1, index)
        if self.everywhere is not None:
            cost += block.of(self.everywhere) * self._sum_of_classes(logits)
        total = logits.exp_().sum(1, keepdim=True)
        log_total = total.log()
        values = (slope * log_total).sub_(cost)
        if self.penalty is not None:
            log_total += largest
            slope = (block.of(self.penalty) * log_total).mul_(2).add_(slope)
            values += block.of(self.penalty) * log_total.square_()
        if block.gradient is not None:
            logits.mul_((slope * slopes).div_(total))
            if self.everywhere is not None:
                self._subtract_everywhere(logits, block.of(self.everywhere) * slopes)
            logits.scatter_add_(1, index, (own * slopes).neg_())
        return values

    def _values_of_softmax(self, block: RowBlock, right: Tensor, slopes: Tensor | float) -> Tensor:
        """Return the same, of the softmax that is in the gradient's place and what it is at the right classes."""
        index, own, probs = block.of(self.index), block.of(self.own), block.buffer(0)
        logit = block.scores.gather(1, index)
        log_right, slope = right.log_(), block.of(self.whole)
        values = -slope * log_right
        if self.everywhere is not None:
            values += (slope - own) * logit
            values -= block.of(self.everywhere) * self._sum_of_classes(block.scores)
        if self.penalty is not None:
            log_total = logit - log_right
            slope = (block.of(self.penalty) * log_total).mul_(2).add_(slope)
            values += block.of(self.penalty) * log_total.square_()
        probs *= slope * slopes
        if self.everywhere is not None:
            self._subtract_everywhere(probs, block.of(self.everywhere) * slopes)
        probs.scatter_add_(1, index, (own * slopes).neg_())
        return values

    def _is_near(self, scores: Tensor, index: Tensor) -> bool:
        """Return whether, where all classes cost something, the sum of a row's logits keeps its digits as it is."""
        return self.everywhere is None or scores.gather(1, index).abs().amax().item() <= NEAR

    def _sum_of_classes(self, logits: Tensor) -> Tensor:
        if self.class_weight is None:
            return logits.sum(1, keepdim=True)
        return (self.class_weight @ logits).unsqueeze(1)

    def _subtract_everywhere(self, gradient: Tensor, slopes: Tensor) -> None:
        if self.class_weight is None:
            gradient -= slopes
        else:
            gradient.addcmul_(self.class_weight.reshape(-1, 1), slopes, value=-1)


class SoftCrossEntropy(RowFormula):
    r"""Cross-entropy against class probabilities :math:`t`: as :class:`IndexCrossEntropy`, with
    :math:`a_c = w_c ((1 - s)\, t_c + s / C)` and :math:`\zeta Z^2` in every row.

    Args:
        target: probabilities ``(N, C, P)``.
        definition: the same as a plain composition.
        options: what is added.
    """

    buffers = 2

    def __init__(self, target: Tensor, definition: Definition, options: Options) -> None:
        super().__init__(target, definition)
        class_weight, label_smoothing, z_loss = options
        self.class_weight = None if class_weight is None else class_weight.reshape(-1, 1)
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.buffers = 3 if self._changes_target else 2

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        logits, product, costs = block.buffer(0), block.buffer(1), self._costs(block)
        largest = shifted(block.scores, logits)
        slope = costs.sum(1, keepdim=True)
        cost = torch.mul(costs, logits, out=product).sum(1, keepdim=True)
        total = logits.exp_().sum(1, keepdim=True)
        log_total = total.log()
        values = (slope * log_total).sub_(cost)
        if self.z_loss:
            log_total += largest
            slope += 2 * self.z_loss * log_total
            values += self.z_loss * log_total.square_()
        if block.gradient is not None:
            logits.mul_((slope * slopes).div_(total))
            subtract_multiple(logits, costs, slopes)
        return values

    @property
    def _changes_target(self) -> bool:
        return self.class_weight is not None or self.label_smoothing > 0

    def _costs(self, block: RowBlock) -> Tensor:
        """Return what every class costs."""
        target = block.of(self.target)
        if not self._changes_target:
            return target
        costs = torch.mul(target, 1 - self.label_smoothing, out=block.buffer(2))
        costs += self.label_smoothing / target.shape[1]
        return costs if self.class_weight is None else costs.mul_(self.class_weight)


def has_fast_classes(logits: Tensor, target: Tensor, *weights: Tensor | None, fused: bool) -> bool:
    """Return whether blocks of rows pay for a cross-entropy, which torch may have a ``fused`` function for: of narrow
    rows it makes little."""
    fused_pays = fused and logits.shape[1] >= WIDE
    least = sizes().rows_in_blocks_fused if fused_pays else sizes().rows_in_blocks_of_classes
    return has_fast_rows(logits, target, *weights, least=least)
