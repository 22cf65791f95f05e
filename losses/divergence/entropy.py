"""Entropy of what a network predicts: how far it is from being certain."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.extend import CATEGORICAL, NON_NEGATIVE, DistributionForm, Fits, Loss, Reduction, Total, checked, register
from losses.ops.elementwise.distribution_arrays import mean_of_few_entropies
from losses.ops.elementwise.divergence import total_over_distributions
from losses.ops.elementwise.entropy import Entropy
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.small_divergence import small_entropy
from losses.ops.numerics.log_space import log_probabilities


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy of every distribution along the last dimension, from log-probabilities; see
    :class:`EntropyLoss`."""
    present = log_probs.masked_fill(log_probs == -torch.inf, 0)  # as 1 log 1 is what 0 log 0 shall be
    return -(present.exp() * present).sum(-1)


@register(
    "entropy",
    inputs=CATEGORICAL,
    laws=(NON_NEGATIVE,),
    suits="a term beside a classification: certainty where there are no labels, or with a negative weight less of it",
    fits=Fits(
        task=("multi_task_learning",),
        calibration="with a negative weight, as the confidence penalty, it costs to be too certain",
        few_samples="with a negative weight, as what is learnt by heart is what a network is too certain of",
    ),
    source="minimised: Y. Grandvalet, Y. Bengio, Semi-supervised Learning by Entropy Minimization, 2004; maximised: "
    "G. Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output Distributions, 2017, "
    "arXiv:1701.06548",
)
class EntropyLoss(Loss):
    r"""How uncertain a predicted distribution is; it is compared with nothing.

    .. math::
        H = -\sum_k o_k \log o_k

    :math:`o_k` is the probability of outcome :math:`k`. A term of a weighted sum: with a positive weight predictions
    become certain (entropy minimisation, for samples without labels), with a negative one they are kept from it
    (confidence penalty, maximum entropy). :math:`0 \log 0 = 0`, with gradient 0.

    Args:
        output_form: what the output holds, ``"logits"``, ``"log_probs"`` or ``"probs"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one distribution.

    Shapes:
        output: ``(..., K)``; there is no target. Returns ``()``, or ``(...)`` if nothing is reduced.

    Units:
        Nats, at most the logarithm of the number of outcomes.

    Raises:
        ConfigError: a parameter is none of its options.
        InputError: there is a target, or the values are not in the form that was declared.

    >>> EntropyLoss()(tensor([[0.0, 0.0], [0.0, -100.0]]))  # (log 2 + 0) / 2
    tensor(0.3466)
    """

    @checked
    def __init__(self, *, output_form: DistributionForm = "logits", reduction: Reduction = "mean") -> None:
        super().__init__()
        self.output_form: DistributionForm = output_form
        self.reduction = reduction

    def items(self, output: Tensor, target: None) -> Tensor:
        return entropy(log_probabilities(output, self.output_form))

    def fast_total(self, output: Tensor, target: None, weight: Tensor | None) -> Total | None:
        return self._fast_total(output, weight)

    def fast_mean(self, output: Tensor, target: None) -> Tensor | None:
        few = self._mean_of_few(output, None)
        if few is not None:
            return few
        total = self._fast_total(output, None, mean=True)
        return None if total is None else total.sum

    def fast_weighted_mean(self, output: Tensor, target: None, weight: Tensor) -> Tensor | None:
        if self._goes_in_blocks(output, weight):
            return None
        few = self._mean_of_few(output, weight)
        if few is not None:
            return few
        total = small_entropy(output, weight, self.output_form, mean=True)
        return None if total is None else total.sum

    def _fast_total(self, output: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total | None:
        """Return the total of logits by blocks of rows, where they are many, else in few operations; for the ``mean``
        its sum is divided already."""
        if not self._goes_in_blocks(output, weight):
            return small_entropy(output, weight, self.output_form, mean=mean)
        formula = Entropy(output, lambda logits: self.items(logits, None))
        return total_over_distributions(formula, output, weight, mean=mean)

    def _mean_of_few(self, output: Tensor, weight: Tensor | None) -> Tensor | None:
        return mean_of_few_entropies(lambda output: self.items(output, None), output, weight, self.output_form)

    def _goes_in_blocks(self, output: Tensor, weight: Tensor | None) -> bool:
        return self.output_form == "logits" and has_fast_rows(output, weight)
