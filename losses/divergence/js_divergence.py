"""Jensen-Shannon divergence: symmetric, bounded, finite on disjoint supports."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from losses.extend import (
    DISTRIBUTIONS,
    NON_NEGATIVE,
    DistributionForm,
    Fits,
    InnerProbability,
    Loss,
    Reduction,
    Total,
    bounded,
    checked,
    register,
)
from losses.ops.eager import on_cpu
from losses.ops.elementwise import distribution_arrays
from losses.ops.elementwise.distribution_arrays import mean_of_few_divergences
from losses.ops.elementwise.divergence import JensenShannon, total_over_distributions
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.small_divergence import small_batch, small_jensen_shannon
from losses.ops.elementwise.stacked import StackedBatch
from losses.ops.elementwise.stacked_rows import jensen_shannon, stacked_distributions
from losses.ops.numerics.log_space import floored, log_of_sum, log_probabilities, relative_entropy


def js_divergence(log_probs: Tensor, target_log_probs: Tensor, *, mixture: float = 0.5) -> Tensor:
    """Return the Jensen-Shannon divergence along the last dimension, from log-probabilities; see
    :class:`JSDivergenceLoss`."""
    middle = log_of_sum(floored(log_probs) + math.log1p(-mixture), floored(target_log_probs) + math.log(mixture))
    of_output, of_target = (
        relative_entropy(log_probs, middle).sum(-1),
        relative_entropy(target_log_probs, middle).sum(-1),
    )
    return (1 - mixture) * of_output + mixture * of_target


@register(
    "js_divergence",
    aliases=("js",),
    inputs=DISTRIBUTIONS,
    laws=(NON_NEGATIVE, bounded(math.log(2))),
    suits="comparing distributions whose supports may not overlap, and robust distillation",
    fits=Fits(
        task=("distribution_matching",),
        distributions="compares two of them, from both sides",
    ),
    source="J. Lin, Divergence Measures Based on the Shannon Entropy, 1991, doi:10.1109/18.61115",
)
class JSDivergenceLoss(Loss):
    r"""Mean divergence of two distributions from their mixture.

    .. math::
        \ell = (1 - \pi)\, \mathrm{KL}(o \,\|\, m) + \pi\, \mathrm{KL}(t \,\|\, m),
        \qquad m = (1 - \pi)\, o + \pi\, t

    :math:`o` is the output, :math:`t` the target, :math:`m` their mixture, KL the Kullback-Leibler divergence. With
    :math:`\pi = 1/2` it is symmetric and lies in [0, log 2]; its square root is the Jensen-Shannon distance.

    Args:
        output_form: what the output holds, ``"logits"``, ``"log_probs"`` or ``"probs"``.
        target_form: what the target holds, likewise.
        mixture: :math:`\pi`, fraction of the target in the mixture.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one distribution.

    Shapes:
        output, target: ``(..., K)``, the same. Returns ``()``, or ``(...)`` if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors differ in shape, or their values are not in the form that was declared.

    >>> loss = JSDivergenceLoss(output_form="probs")
    >>> loss(tensor([[1.0, 0.0]]), tensor([[0.0, 1.0]]))  # disjoint: log 2
    tensor(0.6931)
    """

    @checked
    def __init__(
        self,
        *,
        output_form: DistributionForm = "logits",
        target_form: DistributionForm = "probs",
        mixture: InnerProbability = 0.5,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.output_form: DistributionForm = output_form
        self.target_form: DistributionForm = target_form
        self.mixture = mixture
        self.reduction = reduction

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return js_divergence(
            log_probabilities(output, self.output_form),
            log_probabilities(target, self.target_form),
            mixture=self.mixture,
        )

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        stacked = self._stacked(output, target, weight)
        return self._fast_total(output, target, weight) if stacked is None else stacked.total()

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        stacked = self._stacked(output, target, None)
        if stacked is not None:
            return stacked.mean()
        few = self._mean_of_few(output, target, None)
        if few is not None:
            return few
        total = self._fast_total(output, target, None, mean=True)
        return None if total is None else total.sum

    def fast_weighted_mean(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        stacked = self._stacked(output, target, weight)
        if stacked is not None:
            return stacked.mean()
        if self.output_form == "logits" and has_fast_rows(output, target, weight):
            return None
        few = self._mean_of_few(output, target, weight)
        if few is not None:
            return few
        total = self._total_of_few(output, target, weight, mean=True)
        return None if total is None else total.sum

    def hides_by_itself(self, output: Tensor, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and self._stacked(output, target, weight) is not None

    def _stacked(self, output: Tensor, target: Tensor, weight: Tensor | None) -> StackedBatch | None:
        """Return what sums a batch up where every operation is a launch."""
        if on_cpu(output):
            return None
        formula = partial(jensen_shannon, mixture=self.mixture)
        forms = (self.output_form, self.target_form)
        return stacked_distributions(formula, self.items, output, target, weight, forms)

    def _fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total | None:
        """Return the total of logits by blocks of rows, where they are many, else in few operations; for the ``mean``
        its sum is divided already."""
        if self.output_form != "logits" or not has_fast_rows(output, target, weight):
            return self._total_of_few(output, target, weight, mean=mean)
        formula = JensenShannon(target, self.target_form, self.items, mixture=self.mixture)
        return total_over_distributions(formula, output, weight, mean=mean)

    def _mean_of_few(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor | None:
        formula = partial(distribution_arrays.jensen_shannon, mixture=self.mixture)
        forms = (self.output_form, self.target_form)
        return mean_of_few_divergences(formula, self.items, output, target, weight, forms)

    def _total_of_few(self, output: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool) -> Total | None:
        batch = small_batch(output, target, weight, (self.output_form, self.target_form), mean=mean)
        if batch is None:
            return None

        def definition(log_probs: Tensor) -> Tensor:
            return js_divergence(log_probs, log_probabilities(target, self.target_form), mixture=self.mixture)

        return small_jensen_shannon(batch, definition, mixture=self.mixture)
