"""Entropy of the softmax of rows of logits: value and derivative of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from losses.ops.elementwise.divergence import as_rows
from losses.ops.elementwise.rows import LOWEST, RowBlock, RowFormula, shifted


class Entropy(RowFormula):
    r""":math:`H = -\sum_c p_c \log p_c`, where :math:`p` is the softmax, with derivative :math:`-p_c (\log p_c + H)`.

    Args:
        logits: ``(..., C)``.
        definition: the entropy along the last dimension, as a plain composition.
    """

    buffers = 3

    def __init__(self, logits: Tensor, definition: Callable[[Tensor], Tensor]) -> None:
        nothing = as_rows(logits.detach())[:, :1]  # the scores are compared with nothing
        super().__init__(nothing, lambda scores, _: definition(scores.mT))

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        log_probs = block.buffer(0)
        shifted(block.scores, log_probs)
        probs = torch.exp(log_probs, out=block.buffer(1))
        total = probs.sum(1, keepdim=True)
        probs /= total
        log_probs.sub_(total.log_()).clamp_(min=LOWEST)
        mean = torch.mul(probs, log_probs, out=block.buffer(2)).sum(1, keepdim=True)
        if block.gradient is not None:
            log_probs.sub_(mean).mul_(probs).mul_(-slopes)
        return mean.neg_()
