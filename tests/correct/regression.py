"""Losses of residuals."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    POINTWISE,
    SYMMETRIC,
    TRANSLATION_INVARIANT,
    ZERO_AT_TARGET,
    ElementwiseLoss,
    InnerProbability,
    Loss,
    NonNegative,
    NonNegativeVector,
    Positive,
    Reduction,
    bounded,
    checked,
    register_values,
    scales,
)
from tests.correct.declaring import correct


@correct(
    POINTWISE,
    NON_NEGATIVE,
    ZERO_AT_TARGET,
    scales(1),
    oracle=lambda o, t: torch.maximum(0.25 * (t - o), -0.75 * (t - o)).mean(),
)
class Quantile(ElementwiseLoss):
    """Pinball loss: residuals above and below count differently."""

    @checked
    def __init__(self, *, quantile: InnerProbability = 0.25, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.quantile = quantile
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = target - prediction
        return residual.relu() * self.quantile + (-residual).relu() * (1 - self.quantile)


@correct(
    POINTWISE,
    NON_NEGATIVE,
    scales(2),
    oracle=lambda o, t: ((0.3 - (o > t).double()).abs() * (o - t) ** 2).mean(),
)
class Expectile(ElementwiseLoss):
    """Squared residuals, those above the target with another factor."""

    @checked
    def __init__(self, *, level: InnerProbability = 0.3, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.level = level
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = target - prediction
        squared = residual.square()
        return torch.where(residual < 0, (1 - self.level) * squared, self.level * squared)


@correct(
    POINTWISE, NON_NEGATIVE, SYMMETRIC, TRANSLATION_INVARIANT, bounded(1.0), oracle=lambda o, t: geman_mcclure(o - t)
)
class GemanMcClure(ElementwiseLoss):
    """Bounded by 1 however wild an outlier is."""

    @checked
    def __init__(self, *, scale: Positive = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.scale = scale
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        ratio = ((prediction - target) / self.scale).square()
        return ratio / (1 + ratio)


def geman_mcclure(residual: Tensor) -> Tensor:
    return (1 - 4 / (4 + residual**2)).mean()


@correct(POINTWISE, NON_NEGATIVE, SYMMETRIC, oracle=lambda o, t: tukey(o - t))
class Tukey(ElementwiseLoss):
    """Biweight loss, constant beyond a limit."""

    @checked
    def __init__(self, *, limit: Positive = 1.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.limit = limit
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        ratio = ((prediction - target) / self.limit).square().clamp(max=1)
        return self.limit**2 / 6 * ratio * (3 - 3 * ratio + ratio.square())


def tukey(residual: Tensor) -> Tensor:
    near = 1.5**2 / 6 * (1 - (1 - (residual / 1.5) ** 2) ** 3)
    return torch.where(residual.abs() <= 1.5, near, 1.5**2 / 6).mean()


@correct(POINTWISE, NON_NEGATIVE, bounded(1.0), oracle=lambda o, t: (1 - (-((o - t) ** 2) / 2).exp()).mean())
class Welsch(ElementwiseLoss):
    """One minus a Gaussian of the residual."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -torch.expm1(-(prediction - target).square() / 2)


@correct(POINTWISE, NON_NEGATIVE, ZERO_AT_TARGET, oracle=lambda o, t: torch.clamp((o - t).abs() - 0.1, min=0).mean())
class EpsilonInsensitive(ElementwiseLoss):
    """Absolute residual, free of charge up to a tolerance."""

    @checked
    def __init__(self, *, tolerance: NonNegative = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.tolerance = tolerance
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).abs() - self.tolerance).relu()


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: F.smooth_l1_loss(o, t, beta=0.5))
class SmoothAbsolute(ElementwiseLoss):
    """Smooth L1 with the fused function of torch."""

    @checked
    def __init__(self, *, beta: Positive = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.beta = beta
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(prediction, target, reduction="none", beta=self.beta)

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        return F.smooth_l1_loss(prediction, target, reduction=reduction, beta=self.beta)


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t) ** 2 * torch.tensor([1.0, 0.5, 2.0])).mean())
class ColumnSquares(ElementwiseLoss):
    """Squared residuals with a factor for each column, kept in a buffer."""

    factors: Tensor | None

    @checked
    def __init__(self, *, factors: NonNegativeVector | None = None, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.register_buffer("usual", torch.tensor([1.0, 0.5, 2.0]))
        register_values(self, factors=factors)
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        factors = self.usual if self.factors is None else self.factors
        if prediction.ndim and prediction.shape[-1] != len(factors):
            factors = factors.mean()
        return (prediction - target).square() * factors.to(prediction)


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t) ** 2).mean(-1).sqrt().mean())
class RootMeanSquare(Loss):
    """Root of the mean squared residual of every sample."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        squared = (prediction - target).square().mean(-1)
        return squared.masked_fill(squared == 0, 1).sqrt().masked_fill(squared == 0, 0)


@correct(POINTWISE, oracle=lambda o, t: ((o - t) / 0.5 + (-(o - t) / 0.5).exp() - 1).mean())
class Linex(ElementwiseLoss):
    """Exponential below the target, linear above."""

    @checked
    def __init__(self, *, scale: Positive = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.scale = scale
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        ratio = (prediction - target) / self.scale
        return ratio + torch.expm1(-ratio)


LOG_2 = math.log(2)


@correct(POINTWISE, NON_NEGATIVE, SYMMETRIC, oracle=lambda o, t: (o - t).cosh().log().mean())
class LogCosh(ElementwiseLoss):
    """Logarithm of the hyperbolic cosine."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        return residual + F.softplus(-2 * residual) - LOG_2
