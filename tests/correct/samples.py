"""Losses of likelihoods, distributions and samples, some with a kind of input of their own."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.inputs.predictions import Pointwise
from losses.extend import (
    DISTRIBUTIONS,
    NON_NEGATIVE,
    TRANSPORT,
    VAE_OUTPUT,
    Batch,
    ElementwiseLoss,
    InnerProbability,
    InputError,
    Kind,
    Loss,
    Positive,
    Reduction,
    Samples,
    VAEOutput,
    bounded,
    checked,
    require_floating,
    require_tensor,
    widened,
)
from losses.ops.numerics.log_space import floored, log_probabilities
from tests.correct.declaring import Plain, correct


class Counts(Pointwise):
    """The logarithm of an expected count against a count."""

    name = "COUNTS"

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        super().inspect(loss, output, target)
        if bool((target < 0).any()):
            raise InputError("a count must be at least 0, got a negative one; pass counts, not their logarithms")

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        expected = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        return Batch(expected.requires_grad_(), torch.poisson(3 * expected.detach().exp(), generator))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        _, count = batch
        alike = count.clamp(min=0.1).log()
        extremes = super().edges(loss, batch)["extreme_values"]
        return {
            "equal_points": [Batch(alike, count), Batch(torch.zeros_like(count), torch.zeros_like(count))],
            "near_duplicates": [Batch(alike + 1e-4, count)],
            "extreme_values": [Batch(output, target.abs()) for output, target in extremes],
        }


COUNTS = Counts()


@correct(COUNTS, oracle=lambda o, t: F.poisson_nll_loss(o, t, log_input=True))
class Poisson(ElementwiseLoss):
    """Likelihood of a count, up to a constant."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, log_rate: Tensor, count: Tensor) -> Tensor:
        return log_rate.exp() - count * log_rate


@correct(COUNTS, oracle=lambda o, t: (o.exp() ** 0.5 / 0.5 + t * o.exp() ** -0.5 / 0.5).mean())
class Tweedie(ElementwiseLoss):
    """Deviance between Poisson and gamma, up to a constant."""

    @checked
    def __init__(self, *, excess: InnerProbability = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.excess = excess
        self.reduction = reduction

    def items(self, log_rate: Tensor, count: Tensor) -> Tensor:
        rest = 1 - self.excess
        return (rest * log_rate).exp() / rest + count * (-self.excess * log_rate).exp() / self.excess


def negative_binomial(log_rate: Tensor, count: Tensor) -> Tensor:
    law = torch.distributions.NegativeBinomial(torch.tensor(2.0, dtype=torch.float64), logits=log_rate - math.log(2))
    constant = torch.lgamma(count + 2) - torch.lgamma(count + 1)
    return -(law.log_prob(count) - constant).mean()


@correct(COUNTS, oracle=negative_binomial)
class NegativeBinomial(ElementwiseLoss):
    """Likelihood of a count that varies more than a Poisson's, up to a constant."""

    @checked
    def __init__(self, *, dispersion: Positive = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.dispersion = dispersion
        self.reduction = reduction

    def items(self, log_rate: Tensor, count: Tensor) -> Tensor:
        logit = log_rate - math.log(self.dispersion)
        return count * F.softplus(-logit) + self.dispersion * F.softplus(logit)


class Moments(Kind):
    """A mean and a log-variance in the last dimension, against a number."""

    name, returns = "MOMENTS", "prediction"
    output_text, target_text = "mean and log-variance (..., 2)", "a number for each (...)"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        require_tensor(moments=output, target=target)
        require_floating(moments=output, target=target)
        if output.shape != (*target.shape, 2):
            raise InputError(
                f"moments has shape {tuple(output.shape)}, and must have {(*target.shape, 2)}; "
                "stack mean and log-variance in the last dimension"
            )
        output = widened(output)
        return Batch(output, target.to(output.dtype))

    def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        _, target = super().mask(loss, target, target, weight)
        absent = (weight == 0).reshape(weight.shape + (1,) * (output.ndim - weight.ndim))
        return Batch(output.masked_fill(absent, 0), target)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        output = torch.randn(size, 3, 2, generator=generator, dtype=torch.float64)
        return Batch(output.requires_grad_(), torch.randn(size, 3, generator=generator, dtype=torch.float64))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        _, target = batch
        sure = torch.stack([target, torch.full_like(target, -6)], -1)
        return {"equal_points": [Batch(sure, target)], "near_duplicates": [Batch(sure + 1e-4, target)]}


MOMENTS = Moments()


def gaussian(moments: Tensor, target: Tensor) -> Tensor:
    return F.gaussian_nll_loss(moments[..., 0], target, moments[..., 1].clamp(-6, 6).exp())


@correct(MOMENTS, oracle=gaussian)
class Heteroscedastic(Plain):
    """Gaussian likelihood whose variance the model says, within limits."""

    def items(self, moments: Tensor, target: Tensor) -> Tensor:
        log_variance = moments[..., 1].clamp(-6, 6)
        return ((target - moments[..., 0]).square() * (-log_variance).exp() + log_variance) / 2


@correct(DISTRIBUTIONS, NON_NEGATIVE, bounded(1.0), oracle=lambda o, t: (o.softmax(-1) - t).abs().sum(-1).mean() / 2)
class TotalVariation(Plain):
    """Half the absolute difference."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.softmax(-1) - target).abs().sum(-1) / 2


@correct(DISTRIBUTIONS, oracle=lambda o, t: 2 * (o.softmax(-1) ** 0.5 * t**0.5).sum(-1).log().neg().mean())
class Renyi(Loss):
    """Divergence of an order between 0 and 1, of distributions that may be disjoint."""

    @checked
    def __init__(self, *, order: InnerProbability = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.order = order
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        log_output, log_target = (
            floored(log_probabilities(logits, "logits")),
            floored(log_probabilities(target, "probs")),
        )
        mixed = self.order * log_target + (1 - self.order) * log_output
        return mixed.logsumexp(-1) / (self.order - 1)


def absolute_differences(first: Samples, second: Samples) -> Tensor:
    weights = [
        torch.full_like(part.points, 1 / part.points.shape[-1]) if part.weights is None else part.weights
        for part in (first, second)
    ]
    weights = [part / part.sum(-1, keepdim=True) for part in weights]
    apart = (first.points.unsqueeze(-1) - second.points.unsqueeze(-2)).abs()
    return (apart * weights[0].unsqueeze(-1) * weights[1].unsqueeze(-2)).sum((-1, -2))


@correct(TRANSPORT)
class Energy(Plain):
    """Energy distance of samples on a line."""

    def items(self, output: Samples, target: Samples) -> Tensor:
        between = absolute_differences(output, target)
        return 2 * between - absolute_differences(output, output) - absolute_differences(target, target)


@correct(VAE_OUTPUT)
class LaplaceElbo(Loss):
    """Absolute reconstruction error and the divergence from a standard normal."""

    @checked
    def __init__(self, *, beta: Positive = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.beta = beta
        self.reduction = reduction

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        log_variance = widened(output.log_variance).clamp(-6, 6)
        divergence = (widened(output.mean).square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
        return (output.reconstruction - target).abs().flatten(1).sum(1) + self.beta * divergence
