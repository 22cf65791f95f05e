"""Generalized cross-entropy: between cross-entropy and one minus the probability, for labels that may be wrong."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.extend import (
    CLASS_INDICES,
    NON_NEGATIVE,
    SHIFT_INVARIANT_LOGITS,
    Fits,
    Integer,
    Loss,
    Probability,
    Reduction,
    Total,
    bounded,
    checked,
    register,
)
from losses.ops.at_once import rows_at_once, suits_at_once
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.small_cross_entropy import are_logits_of_indices
from losses.ops.elementwise.surprise import all_count, mean_of_launches, total_of_surprises
from losses.ops.elementwise.surprise_arrays import mean_of_few_surprises
from losses.ops.numerics.nll import surprises
from losses.ops.numerics.softmax import log_softmax


def generalized_cross_entropy(logits: Tensor, target: Tensor, *, q: float = 0.7, ignore_index: int = -100) -> Tensor:
    """Return the generalized cross-entropy of every position, unreduced, 0 where it is ignored; see
    :class:`GeneralizedCrossEntropyLoss`."""
    return transformed(surprises(log_softmax(logits, 1), target, ignore_index), q)


def transformed(surprise: Tensor, q: float) -> Tensor:
    """Return (1 - p^q) / q, from -log p."""
    return (surprise * -q).expm1() / -q if q else surprise  # 1 - p^q keeps its digits where p is close to 1


@register(
    "generalized_cross_entropy",
    aliases=("gce",),
    inputs=CLASS_INDICES,
    laws=(NON_NEGATIVE, SHIFT_INVARIANT_LOGITS, bounded(1 / 0.7)),
    suits="classification where many labels are wrong",
    fits=Fits(
        task=("classification",),
        label_noise="a label that is found absurd, perhaps because it is wrong, has a small gradient",
    ),
    source="Z. Zhang, M. R. Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy "
    "Labels, 2018, arXiv:1805.07836",
)
class GeneralizedCrossEntropyLoss(Loss):
    r"""Box-Cox transform of the probability of the target's class, so that what the model finds absurd pulls less.

    .. math::
        \ell(z, t) = \frac{1 - p_t^q}{q}, \qquad p = \operatorname{softmax}(z)

    :math:`z` are the logits and :math:`t` is the class of the target. The gradient is that of cross-entropy times
    :math:`p_t^q`: a label that is improbable, perhaps because it is wrong, counts for little. With :math:`q \to 0` the
    loss is cross-entropy, with :math:`q = 1` one minus the probability, half the absolute error between the
    probabilities and the one-hot target.

    Args:
        q: from 0, cross-entropy, to 1, which bears the most noise and learns the slowest.
        ignore_index: target index of positions that do not count.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample, or one position of it.

    Shapes:
        logits: ``(N, C, ...)``; target: class indices ``(N, ...)``. Returns ``()``, or ``(N, ...)`` if nothing is
        reduced.

    Units:
        None: from 0 to 1/q. Nats if ``q`` is 0.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: shapes do not fit, or an index is out of range.

    >>> loss = GeneralizedCrossEntropyLoss(q=0.5)
    >>> loss(tensor([[0.0, 0.0, 0.0, 0.0]]), tensor([2]))  # (1 - sqrt(1 / 4)) / 0.5
    tensor(1.)
    """

    @checked
    def __init__(self, *, q: Probability = 0.7, ignore_index: Integer = -100, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.q = q
        self.ignore_index = ignore_index
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return generalized_cross_entropy(logits, target, q=self.q, ignore_index=self.ignore_index)

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        return (target != self.ignore_index).to(logits.dtype)

    def fast_total(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        batch = rows_at_once(self.items, logits, target, weight, self.ignore_index)
        return self._by_rows(logits, target, weight) if batch is None else batch.total()

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        return self._mean_of_few(output, target, weight) if are_logits_of_indices(output, target) else None

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        few = self._mean_of_few(logits, target, None)
        if few is not None:
            return few
        total = self._by_rows(logits, target, None, mean=True)
        if total is not None:
            return total.sum
        if all_count(target, self.ignore_index):
            return self.items(logits, target).mean()
        return mean_of_launches(self._of_surprise, partial(transformed, q=self.q), logits, target, self.ignore_index)

    def fast_weighted_mean(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        batch = rows_at_once(self.items, logits, target, weight, self.ignore_index)
        return self._mean_of_few(logits, target, weight) if batch is None else batch.mean()

    def hides_by_itself(self, logits: Tensor, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and suits_at_once(logits, target, weight)

    def _mean_of_few(self, logits: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        """Return the mean of a few rows in NumPy."""
        return mean_of_few_surprises(
            self._of_surprise,
            lambda logits: self.definition_total(logits, target, weight).mean(),
            logits,
            target,
            weight,
            self.ignore_index,
        )

    def _by_rows(self, logits: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total | None:
        if not has_fast_rows(logits, target, weight):
            return None
        counted = self.denominators(logits, logits, target)
        return total_of_surprises(self._of_surprise, self.items, logits, target, weight, counted, mean=mean)

    def _of_surprise(self, surprise: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and derivative from -log p."""
        if not self.q:
            return surprise, torch.ones_like(surprise)
        lost = (surprise * -self.q).expm1()  # p^q - 1
        return lost / -self.q, lost + 1
