"""Kullback-Leibler divergence, with both directions spelled out."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from losses.extend import (
    DISTRIBUTION_OBJECTS,
    DISTRIBUTIONS,
    NON_NEGATIVE,
    DistributionForm,
    Fits,
    InputError,
    Loss,
    Positive,
    Reduction,
    Total,
    checked,
    register,
    widened,
)
from losses.ops.eager import on_cpu
from losses.ops.elementwise.divergence import ForwardKL, ReverseKL, total_over_distributions
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.small_divergence import (
    are_few_distributions,
    mean_of_few_forward_kl,
    small_batch,
    small_forward_kl,
)
from losses.ops.elementwise.stacked import StackedBatch
from losses.ops.elementwise.stacked_rows import forward_kl, stacked_distributions
from losses.ops.numerics.log_space import floored_beside, log_probabilities, relative_entropy


def kl_divergence(
    log_probs: Tensor, target_log_probs: Tensor, *, direction: Literal["forward", "reverse"] = "forward"
) -> Tensor:
    """Return KL of every distribution along the last dimension, from log-probabilities; see
    :class:`KLDivergenceLoss`."""
    if direction == "forward":
        return relative_entropy(target_log_probs, log_probs).sum(-1)
    return relative_entropy(log_probs, target_log_probs).sum(-1)


@register(
    "kl_divergence",
    aliases=("kl",),
    inputs=(DISTRIBUTIONS, DISTRIBUTION_OBJECTS),
    laws=(NON_NEGATIVE,),
    suits="distillation, and matching a predicted distribution to a known one",
    fits=Fits(
        task=("distribution_matching",),
        distributions="compares two of them, also for distillation",
    ),
    source="S. Kullback, R. A. Leibler, On Information and Sufficiency, 1951, doi:10.1214/aoms/1177729694; "
    "temperature: G. Hinton, O. Vinyals, J. Dean, 2015, arXiv:1503.02531",
)
class KLDivergenceLoss(Loss):
    r"""Nats lost by using one distribution where the other is true.

    .. math::
        \text{forward: } \mathrm{KL}(t \,\|\, o) = \sum_k t_k (\log t_k - \log o_k)
        \qquad
        \text{reverse: } \mathrm{KL}(o \,\|\, t)

    KL is the divergence, :math:`o` the output, :math:`t` the target, :math:`k` an outcome, :math:`T` the temperature.
    :math:`0 \log 0 = 0`: a probability of 0 in the distribution that weighs, :math:`t` in forward, costs nothing, and
    no temperature makes it more than 0. A probability of 0 in the other one, where the first has some, counts as the
    smallest normal number of the dtype that is computed in (float32 for half precision), with gradient 0, so that the
    divergence stays finite. Temperature is applied after that: at :math:`T` it counts as that number to the power
    :math:`1 / T`, so what was rounded to 0 lies near what just was not.

    The gradient of a probability is of the size of :math:`1 / p`, and is held at the reciprocal of the smallest normal
    number of its own dtype: 1.2e-38 (float32, bfloat16), 6.1e-5 (float16), 2.2e-308 (float64). So behind a softmax the
    gradient at :math:`T = 1` is right down to there, and from there fades to 0; logits have no such limit.

    Args:
        output_form: what the output holds, ``"logits"``, ``"log_probs"`` or ``"probs"``.
        target_form: what the target holds, likewise.
        direction: ``"forward"`` is KL(target‖output), which covers the target; ``"reverse"`` is KL(output‖target),
            which seeks one of its modes.
        temperature: :math:`T`; log-probabilities are divided by it and normalised again, and the loss is multiplied by
            :math:`T^2`, so that gradients keep their size.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one distribution: summed over outcomes, never
            averaged.

    Shapes:
        output, target: ``(..., K)``, the same. Returns ``()``, or ``(...)`` if nothing is reduced.
        Also takes two ``torch.distributions.Distribution`` that torch knows the divergence of; then an item is one
        element of their batch shape, and ``output_form`` and ``target_form`` have nothing to say.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors differ in shape, or their values are not in the form that was declared.

    >>> loss = KLDivergenceLoss(output_form="probs", target_form="probs")
    >>> loss(tensor([[0.5, 0.5]]), tensor([[1.0, 0.0]]))  # 1 * log(1 / 0.5)
    tensor(0.6931)
    """

    @checked
    def __init__(
        self,
        *,
        output_form: DistributionForm = "logits",
        target_form: DistributionForm = "probs",
        direction: Literal["forward", "reverse"] = "forward",
        temperature: Positive = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.output_form: DistributionForm = output_form
        self.target_form: DistributionForm = target_form
        self.direction: Literal["forward", "reverse"] = direction
        self.temperature = temperature
        self.reduction = reduction

    def items(self, output: Tensor | Distribution, target: Tensor | Distribution) -> Tensor:
        if isinstance(output, Distribution) and isinstance(target, Distribution):
            return self._of_objects(output, target)
        assert isinstance(output, Tensor) and isinstance(target, Tensor)  # accepted together
        log_probs, target_log_probs = (
            log_probabilities(output, self.output_form),
            log_probabilities(target, self.target_form),
        )
        if self.temperature != 1:
            if self.direction == "forward":
                log_probs = floored_beside(log_probs, target_log_probs)
            else:
                target_log_probs = floored_beside(target_log_probs, log_probs)
            log_probs, target_log_probs = (
                (part / self.temperature).log_softmax(-1) for part in (log_probs, target_log_probs)
            )
        return self.temperature**2 * kl_divergence(log_probs, target_log_probs, direction=self.direction)

    def fast_total(
        self, output: Tensor | Distribution, target: Tensor | Distribution, weight: Tensor | None
    ) -> Total | None:
        stacked = self._stacked(output, target, weight)
        return self._fast_total(output, target, weight) if stacked is None else stacked.total()

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        if not are_few_distributions(output, target, weight):
            return None
        if self.direction != "forward" or self.temperature != 1:
            return None
        if weight is None and self.output_form == "logits" and self.target_form == "probs":
            return mean_of_few_forward_kl(output, target)
        total = self._total_of_few(output, target, weight, mean=True)
        return None if total is None else total.sum

    def fast_mean(self, output: Tensor | Distribution, target: Tensor | Distribution) -> Tensor | None:
        stacked = self._stacked(output, target, None)
        if stacked is not None:
            return stacked.mean()
        total = self._fast_total(output, target, None, mean=True)
        return None if total is None else total.sum

    def fast_weighted_mean(
        self, output: Tensor | Distribution, target: Tensor | Distribution, weight: Tensor
    ) -> Tensor | None:
        stacked = self._stacked(output, target, weight)
        if stacked is not None:
            return stacked.mean()
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)) or self._goes_in_blocks(
            output, target, weight
        ):
            return None
        total = self._total_of_few(output, target, weight, mean=True)
        return None if total is None else total.sum

    def hides_by_itself(self, output: Tensor | Distribution, target: Tensor | Distribution, weight: Tensor) -> bool:
        return self.reduction != "none" and self._stacked(output, target, weight) is not None

    def _stacked(
        self, output: Tensor | Distribution, target: Tensor | Distribution, weight: Tensor | None
    ) -> StackedBatch | None:
        """Return what sums a batch up where every operation is a launch."""
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)) or on_cpu(output):
            return None
        if self.direction != "forward" or self.temperature != 1:
            return None
        forms = (self.output_form, self.target_form)
        return stacked_distributions(forward_kl, self.items, output, target, weight, forms)

    def _fast_total(
        self,
        output: Tensor | Distribution,
        target: Tensor | Distribution,
        weight: Tensor | None,
        *,
        mean: bool = False,
    ) -> Total | None:
        """Return the total of logits by blocks of rows, where they are many, else by torch's function; for the ``mean``
        its sum is divided already."""
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            return None
        if not self._goes_in_blocks(output, target, weight):
            return self._total_of_few(output, target, weight, mean=mean)
        kind = ForwardKL if self.direction == "forward" else ReverseKL
        formula = kind(target, self.target_form, self.items, temperature=self.temperature)
        return total_over_distributions(formula, output, weight, mean=mean)

    def _goes_in_blocks(self, output: Tensor, target: Tensor, weight: Tensor | None) -> bool:
        return self.output_form == "logits" and has_fast_rows(output, target, weight)

    def _total_of_few(self, output: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool) -> Total | None:
        if self.direction != "forward" or self.temperature != 1:
            return None
        batch = small_batch(output, target, weight, (self.output_form, self.target_form), mean=mean)
        return None if batch is None else small_forward_kl(batch)

    def _of_objects(self, output: Distribution, target: Distribution) -> Tensor:
        if self.temperature != 1:
            raise InputError(
                f"temperature={self.temperature} needs logits or probabilities; two Distribution objects have none in "
                "common"
            )
        first, second = (target, output) if self.direction == "forward" else (output, target)
        try:
            return widened(torch.distributions.kl_divergence(first, second))
        except NotImplementedError:
            raise InputError(
                f"torch knows no divergence from {type(first).__name__} to {type(second).__name__}; pass tensors, or "
                "register_kl"
            ) from None
