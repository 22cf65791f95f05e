"""Negative log-likelihood of a Gaussian whose mean and variance are both predicted."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from losses.extend import (
    GAUSSIAN,
    TRANSLATION_INVARIANT,
    Fits,
    Gaussian,
    Loss,
    Reduction,
    Total,
    checked,
    register,
    require_same_shape,
    widened,
)
from losses.ops.eager import on_cpu
from losses.ops.elementwise.gaussian import gaussian_nll_sum, stacked_gaussian_nll
from losses.ops.elementwise.stacked import StackedBatch, suits_stack
from losses.ops.numerics.exponential import largest_exponent

HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor, *, full: bool = False) -> Tensor:
    """Return the negative log-likelihood of every element, unreduced; see :class:`GaussianNLLLoss`."""
    require_same_shape(mean=mean, log_variance=log_variance, target=target)
    largest = largest_exponent(mean.dtype, log_variance.dtype)  # of the dtypes that the gradients have to fit into
    log_precision = -widened(log_variance)
    squared = (widened(mean) - target).square()
    # neither the precision nor the squared residual times it may leave the range
    bounded = torch.minimum(log_precision, largest - squared.detach().clamp(min=1).log())
    standardised = squared * bounded.exp()
    tangent = standardised.detach() * (log_precision - bounded)  # which is 0 but where a precision is bounded
    return (standardised + tangent - log_precision) / 2 + full * HALF_LOG_TWO_PI


@register(
    "gaussian_nll",
    inputs=GAUSSIAN,
    laws=(TRANSLATION_INVARIANT,),
    suits="regression whose noise differs from sample to sample: predicts how uncertain it is, for intervals",
    fits=Fits(
        task=("regression",),
        intervals="predicts a variance, of which intervals follow if the noise is Gaussian",
        against={"outliers": "squares them, or takes them for a large variance"},
    ),
    source="D. A. Nix, A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994, "
    "doi:10.1109/ICNN.1994.374138",
)
class GaussianNLLLoss(Loss):
    r"""Squared residual in units of the predicted variance, and the price of a large variance.

    .. math::
        \ell = \tfrac12 \Big(v + (\mu - y)^2\, e^{-v}\Big) \;\Big[ + \tfrac12 \log 2 \pi \Big]

    :math:`\mu` is the predicted mean, :math:`v = \log \sigma^2` the logarithm of the predicted variance and :math:`y`
    the target. Value and gradient are finite for any input: a log-variance below -71 (in float16, whose largest number
    is 65504, below -8.9; where the squared residual is above 1, by its logarithm sooner) goes on along the tangent of
    :math:`e^{-v}`, and the mean learns as it does there.

    Args:
        full: whether the constant :math:`\tfrac12 \log 2 \pi` is added, with which it is the likelihood itself.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        output: ``Gaussian(mean (*), log_variance (*))``; target: ``(*)``, the same. Returns ``()``, or ``(*)`` if
        nothing is reduced.

    Units:
        Nats. The log-variance is that of a variance in the square of the target's unit.

    Raises:
        ConfigError: ``full`` is neither true nor false, or ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast) or are not floating point.

    >>> output = Gaussian(mean=tensor([3.0, 3.0]), log_variance=tensor([0.0, 2.0]))
    >>> GaussianNLLLoss(reduction="none")(output, tensor([1.0, 3.0]))  # 2**2 / 2, 2 / 2
    tensor([2., 1.])
    """

    @checked
    def __init__(self, *, full: bool = False, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.full = full
        self.reduction = reduction

    def items(self, output: Gaussian, target: Tensor) -> Tensor:
        return gaussian_nll(*output, target, full=self.full)

    def fast_total(self, output: Gaussian, target: Tensor, weight: Tensor | None) -> Total | None:
        stacked = self._stacked(output, target, weight)
        if stacked is not None:
            return stacked.total()
        definition = partial(gaussian_nll, full=False)
        made = gaussian_nll_sum(definition, output.mean, output.log_variance, target, weight)
        if made is None:
            return None
        return Total(made.sum + HALF_LOG_TWO_PI * made.denominator, made.denominator) if self.full else made

    def fast_mean(self, output: Gaussian, target: Tensor) -> Tensor | None:
        stacked = self._stacked(output, target, None)
        return None if stacked is None else stacked.mean()

    def fast_weighted_mean(self, output: Gaussian, target: Tensor, weight: Tensor) -> Tensor | None:
        stacked = self._stacked(output, target, weight)
        return None if stacked is None else stacked.mean()

    def hides_by_itself(self, output: Gaussian, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and self._stacked(output, target, weight) is not None

    def _stacked(self, output: Gaussian, target: Tensor, weight: Tensor | None) -> StackedBatch | None:
        """Return what sums a batch up where every operation is a launch."""
        if on_cpu(target) or not target.numel() or not suits_stack(*output, target, weight, outputs=2):
            return None
        largest = largest_exponent(output.mean.dtype)
        stacked = partial(stacked_gaussian_nll, largest=largest, constant=self.full * HALF_LOG_TWO_PI)
        return StackedBatch(stacked, partial(gaussian_nll, full=self.full), output, target, weight)
