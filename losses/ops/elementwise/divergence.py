"""Divergences of the softmax of rows of logits from a target: value and derivative of a block.

Throughout, :math:`p` is the softmax of the logits and :math:`t` the target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.parameters import DistributionForm
from losses.core.reduction import Total, expanded
from losses.ops.elementwise.rows import (
    LOWEST,
    Definition,
    RowBlock,
    RowFormula,
    shifted,
    subtract_multiple,
    sum_over_rows,
)


class Divergence(RowFormula):
    """What the divergences have in common: both sides at a temperature, in buffers 0 and 1, the target in buffer 2.

    Args:
        target: distributions ``(..., C)``.
        form: what the target holds.
        definition: the divergence of every distribution along the last dimension, as a plain composition.
        temperature: log-probabilities are divided by it and normalised again, and the divergence is multiplied by its
            square.
    """

    def __init__(
        self, target: Tensor, form: DistributionForm, definition: Definition, *, temperature: float = 1.0
    ) -> None:
        super().__init__(as_rows(target), lambda scores, target: definition(scores.mT, target.mT))
        self.form, self.temperature = form, temperature

    def logits(self, block: RowBlock) -> Tensor:
        """Return the logits less the largest of their row, at the temperature."""
        logits = block.buffer(0)
        shifted(block.scores, logits)
        return logits if self.temperature == 1 else logits.div_(self.temperature)

    def log_target(self, block: RowBlock, *, lowest: float | None = LOWEST) -> Tensor:
        """Return the logarithm of the target, no less than ``lowest``."""
        target, log_target = block.of(self.target), block.buffer(1)
        if self.form == "probs":
            log_target = torch.clamp(target, min=0, out=log_target).log_()
        elif self.form == "log_probs":
            log_target.copy_(target)
        else:
            shifted(target, log_target)
        if self.temperature != 1:
            log_target.div_(self.temperature)
        if self.temperature != 1 or self.form == "logits":
            log_target -= torch.exp(log_target, out=block.buffer(2)).sum(1, keepdim=True).log_()
        return log_target if lowest is None else log_target.clamp_(min=lowest)

    def target_and_log(self, block: RowBlock) -> tuple[Tensor, Tensor]:
        """Return the target, and its logarithm, no less than the lowest."""
        if self.form == "probs" and self.temperature == 1:
            target = torch.clamp(block.of(self.target), min=0, out=block.buffer(2))
            return target, torch.log(target, out=block.buffer(1)).clamp_(min=LOWEST)
        log_target = self.log_target(block)
        return torch.exp(log_target, out=block.buffer(2)), log_target


class ForwardKL(Divergence):
    r"""KL of the target from the softmax: :math:`\sum_c t_c (\log t_c - \log p_c)`, with derivative
    :math:`p_c \sum_k t_k - t_c`."""

    buffers = 3

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        logits, (target, log_target) = self.logits(block), self.target_and_log(block)
        whole = target.sum(1, keepdim=True)
        values = log_target.sub_(logits).mul_(target).sum(1, keepdim=True)
        total = logits.exp_().sum(1, keepdim=True)
        values += whole * total.log()
        if block.gradient is not None:
            slopes = slopes * self.temperature
            logits.mul_((whole * slopes).div_(total))
            subtract_multiple(logits, target, slopes)
        return values.mul_(self.temperature**2)


class ReverseKL(Divergence):
    r"""KL of the softmax from the target: :math:`\ell = \sum_c p_c (\log p_c - \log t_c)`, with derivative
    :math:`p_c (\log p_c - \log t_c - \ell)`."""

    buffers = 3

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        logits, log_target = self.logits(block), self.log_target(block, lowest=None)
        ratio = torch.sub(logits, log_target, out=log_target)
        probs = logits.exp_()
        total = probs.sum(1, keepdim=True)
        probs /= total
        mean = torch.mul(probs, ratio, out=block.buffer(2)).sum(1, keepdim=True)
        if block.gradient is not None:
            probs *= slopes * self.temperature
            probs.mul_(ratio.sub_(mean))
        return mean.sub_(total.log_()).mul_(self.temperature**2)


class JensenShannon(Divergence):
    r"""Both from their mixture :math:`m = (1 - \pi) p + \pi t`:
    :math:`(1 - \pi) \sum_c p_c \log (p_c / m_c) + \pi \sum_c t_c \log (t_c / m_c)`, with derivative
    :math:`(1 - \pi)\, p_c (\log (p_c / m_c) - \sum_k p_k \log (p_k / m_k))`."""

    buffers = 5

    def __init__(self, target: Tensor, form: DistributionForm, definition: Definition, *, mixture: float) -> None:
        super().__init__(target, form, definition)
        self.mixture = mixture

    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        log_probs, (target, log_target) = self.logits(block).clamp_(min=LOWEST), self.target_and_log(block)
        probs = torch.exp(log_probs, out=block.buffer(3))
        total = probs.sum(1, keepdim=True)
        probs *= total.reciprocal()
        log_probs -= total.log_()
        middle = torch.lerp(probs, target, self.mixture, out=block.buffer(4))
        middle.clamp_(min=torch.finfo(middle.dtype).tiny).log_()
        of_target = log_target.sub_(middle).mul_(target).sum(1, keepdim=True)
        ratio = log_probs.sub_(middle)
        of_output = torch.mul(ratio, probs, out=middle).sum(1, keepdim=True)
        if block.gradient is not None:
            probs *= slopes * (1 - self.mixture)
            ratio.sub_(of_output).mul_(probs)
        return of_output.mul_(1 - self.mixture).add_(of_target, alpha=self.mixture)


def total_over_distributions(
    formula: RowFormula, logits: Tensor, weight: Tensor | None, *, mean: bool = False
) -> Total:
    """Return the total over distributions ``(..., C)`` by blocks of rows; for the ``mean`` its sum is divided already.

    Args:
        formula: of a row.
        logits: what the formula is differentiated by.
        weight: of every distribution, or one for each of their leading indices.
        mean: of all without weights.
    """
    rows = as_rows(logits)
    if weight is None:
        return Total(sum_over_rows(formula, rows, divisor=len(rows) if mean else None), len(rows))
    weight = expanded(weight, logits.shape[:-1]).reshape(-1, 1)
    return Total(sum_over_rows(formula, rows, weight), weight.sum())


def as_rows(distributions: Tensor) -> Tensor:
    """Return distributions ``(..., C)`` as ``(N, C, 1)``."""
    return distributions.reshape(-1, distributions.shape[-1], 1)
