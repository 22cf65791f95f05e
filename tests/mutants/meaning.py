"""Broken losses that mean something else: another value, another convention, another law."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

import losses
from losses.core.loss import Loss
from losses.core.reduction import Total
from losses.extend import ElementwiseLoss
from tests.mutants.correct import Absolutes, Entropies, Mutant, Squares
from tests.mutants.derivatives import DetachedOutput


class SmoothL1(losses.HuberLoss):
    """Is smooth L1, which is Huber's loss divided by beta."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(prediction, target, beta=self.delta, reduction="none")

    fused = ElementwiseLoss.fused


class Negated(Squares):
    """Has the wrong sign."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -super().items(prediction, target)


class OneSided(Squares):
    """Does not mind predictions that are too low."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).relu().square()


class NeverZero(Absolutes):
    """Has a smoothing constant that is still there at the target."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).square() + 1e-6).sqrt()


class DroopingTail(losses.HuberLoss):
    """Has a tail of delta (|r| - delta), which keeps every law of Huber's."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        size = (prediction - target).abs()
        return torch.where(size <= self.delta, size.square() / 2, self.delta * (size - self.delta))

    fused = ElementwiseLoss.fused


class Halved(Squares):
    """Takes the half of another convention."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / 2


class MarginTwice(losses.HingeLoss):
    """Adds the margin twice."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (2 * self.margin - scores.where(target > 0, -scores)).relu()


class WrongSide(losses.HingeLoss):
    """Takes no for yes."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return super().items(scores, -target)


class SwappedDirection(losses.KLDivergenceLoss):
    """Is KL(output, target) where KL(target, output) was asked for."""

    fast_mean, fast_weighted_mean, fast_total = Loss.fast_mean, Loss.fast_weighted_mean, Loss.fast_total

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return type(self).__base__(direction="reverse").items(output, target)


class MeanOverOutcomes(losses.KLDivergenceLoss):
    """Divides by outcomes too, as torch's reduction="mean" does where its "batchmean" is the divergence."""

    fast_mean, fast_weighted_mean, fast_total = Loss.fast_mean, Loss.fast_weighted_mean, Loss.fast_total

    def denominators(self, items: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return torch.full_like(items, output.shape[-1])


class IgnoredCount(Entropies):
    """Counts ignored positions in the denominator."""

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> None:
        return None


class ForgottenHalf(losses.HuberLoss):
    """Forgets a half in the definition, which the kernel has."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 2 * super().items(prediction, target)


class BatchMean(losses.MSELoss):
    """Divides by the number of rows where items are elements."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return self.definition_total(output, target, weight)._replace(denominator=len(output))

    fused = ElementwiseLoss.fused


class NothingReturned(Squares):
    """Forgets to return its items."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        super().items(prediction, target)
        return None  # type: ignore[return-value]  # wrong on purpose


class NumberReturned(losses.MSELoss):
    """Returns a number of Python, which has no gradient."""

    def forward(self, *batch: Any, **options: Any) -> Tensor:
        return super().forward(*batch, **options).item()  # type: ignore[return-value]  # wrong on purpose


class Unreduced(losses.MSELoss):
    """Returns items where their mean is asked for."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target)


class WithoutGraph(losses.MSELoss):
    """Computes its value outside of autograd."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor:
        return super().fast_mean(output.detach(), target)


def forward_divergence(output: Tensor, target: Tensor) -> Tensor:
    return torch.distributions.kl_divergence(Categorical(probs=target), Categorical(logits=output)).mean()


def batchmean_divergence(output: Tensor, target: Tensor) -> Tensor:
    return F.kl_div(output.log_softmax(-1), target, reduction="batchmean")


def ranked_above_zero(scores: Tensor, target: Tensor) -> Tensor:
    return F.margin_ranking_loss(scores, torch.zeros_like(scores), target, margin=1.0)


def without_class_0(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits[target != 0], target[target != 0])


MUTANTS = [
    Mutant("gives_a_loss", NothingReturned(), "NoneType"),
    Mutant("gives_a_loss", NumberReturned(), "it returned float"),
    Mutant("gives_a_loss", Unreduced(), r"shape \(10, 3\)"),
    Mutant("gives_a_loss", WithoutGraph(), "no graph"),
    Mutant("keeps_its_laws", SmoothL1(), "LawError: everything times 2"),
    Mutant("keeps_its_laws", Negated(), "LawError: an item is -"),
    Mutant("keeps_its_laws", OneSided(), r"LawError: loss\(target, output\)"),
    Mutant("keeps_its_laws", NeverZero(), r"LawError: loss\(target, target\)"),
    Mutant("equals_its_oracle", DroopingTail(), "value of ", F.huber_loss),
    Mutant("equals_its_oracle", Halved(), "value of ", F.mse_loss),
    Mutant("equals_its_oracle", DetachedOutput(), "gradient of ", F.mse_loss),
    Mutant("equals_its_oracle", MarginTwice(), "value of ", ranked_above_zero),
    Mutant("equals_its_oracle", WrongSide(), "value of ", ranked_above_zero),
    Mutant("equals_its_oracle", SwappedDirection(), "value of ", forward_divergence),
    Mutant("equals_its_oracle", MeanOverOutcomes(), "value of ", batchmean_divergence),
    Mutant("equals_its_oracle", IgnoredCount(ignore_index=0), "value of ", without_class_0),
    Mutant("definition_equals_fast_path", ForgottenHalf(), "sum with usual"),
    Mutant("definition_equals_fast_path", BatchMean(), "mean with usual"),
]
