"""Broken losses that are not finite at an edge of their domain, or not exact in a precision."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from losses import Pairs, VAEOutput
from losses.core.labelled import LabelledBatch
from losses.core.loss import Loss
from losses.extend import ElementwiseLoss, ListedPairs
from tests.mutants.correct import Absolutes, AsItComes, Entropies, Mutant, PairCosts, Squares
from tests.mutants.meaning import IgnoredCount


class UnguardedRoot(Absolutes):
    """Takes the root of 0, whose slope is infinite."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sqrt()


class VanishingEpsilon(Absolutes):
    """Guards a root by 1e-12, which is 0 in float16."""

    spec = replace(losses.MAELoss.spec, inputs=(AsItComes(),))

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).square() + 1e-12).sqrt()


class CancellingDistance(PairCosts):
    """Takes |a|^2 + |b|^2 - 2ab for a distance, which rounds to less than 0."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if not isinstance(output, Pairs):
            return super().items(output, target)
        first, second = output
        squared = first.square().sum(1) + second.square().sum(1) - 2 * (first * second).sum(1)
        return self._of(ListedPairs(squared.sqrt(), target > 0))


class UnguardedLength(PairCosts):
    """Divides by the length of a vector whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if isinstance(output, Pairs):
            output = Pairs(*(side / side.square().sum(1, keepdim=True).sqrt() for side in output))
        return super().items(output, target)


class LogOfSoftmax(Entropies):
    """Takes the logarithm of a probability that was rounded to 0."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.dtype.is_floating_point:
            return super().items(logits, target)
        return -logits.softmax(1).log().gather(1, target.unsqueeze(1)).squeeze(1)


class LogOfOnePlusExp(losses.BinaryCrossEntropyLoss):
    """Writes softplus as log1p(exp(.)), which overflows."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.log1p(logits.exp()) - target * logits

    fused = ElementwiseLoss.fused


class ZeroTimesInfinity(Entropies):
    """Multiplies a probability of 0 by the logarithm of 0."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        one_hot = F.one_hot(target, logits.shape[1]) if not target.dtype.is_floating_point else target
        return -(one_hot * logits.log_softmax(1)).sum(1)


class ZeroLogZero(losses.KLDivergenceLoss):
    """Does not know that 0 log 0 is 0."""

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return (target * (target.log() - output.log_softmax(-1))).sum(-1)


class UnboundedVariance(losses.ELBOLoss):
    """Takes exp of any log-variance."""

    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        divergence = (output.log_variance.exp() + output.mean.square() - 1 - output.log_variance) / 2
        return self._parts(output, target)[0] + divergence.sum(1)


class BalancedByDifferent(PairCosts):
    """Divides by the number of pairs of two classes whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(output, target) / (~self.pairs(output, target).same).sum()


class BalancedBySame(PairCosts):
    """Divides by the number of pairs of one class whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(output, target) / self.pairs(output, target).same.sum()


class NothingByNothing(losses.MSELoss):
    """Takes the mean of nothing, which is NaN."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target).mean()


class ZeroWithoutAGraph(losses.MSELoss):
    """Returns a constant for an empty batch, on which backward() raises."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options) if len(output) else torch.zeros((), dtype=output.dtype)


class SpreadOfOne(Squares):
    """Divides by the spread of the batch, which is 0 for one sample."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / target.std(0, correction=0)


class NothingLeft(losses.CrossEntropyLoss):
    """Divides by the number of positions that are not ignored whatever it is."""

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=self.ignore_index)


class TrustingHistograms(losses.WassersteinLoss):
    """Never looks whether a histogram holds anything."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        with losses.checks("never"):
            return super().forward(output, target, **options)


class NarrowArithmetic(losses.MSELoss):
    """Computes in bfloat16 what came in float32."""

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        narrow = torch.bfloat16 if prediction.dtype is torch.float32 else prediction.dtype
        return F.mse_loss(prediction.to(narrow), target.to(narrow), reduction=reduction).to(prediction.dtype)


class ResultInHalf(losses.MSELoss):
    """Rounds its result to the half precision of the output."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options).to(output.dtype)


MUTANTS = [
    Mutant("equal_points", UnguardedRoot(), "gradient .*nan"),
    Mutant("equal_points", VanishingEpsilon(), "gradient .*nan"),
    Mutant("near_duplicates", CancellingDistance(), "nan"),
    Mutant("zero_vectors", UnguardedLength(), "nan"),
    Mutant("extreme_values", LogOfSoftmax(), "value inf|gradient .*nan"),
    Mutant("extreme_values", LogOfOnePlusExp(), "value (inf|nan)"),
    Mutant("infinite_logits", ZeroTimesInfinity(), "value nan"),
    Mutant("one_hot_and_disjoint", ZeroLogZero(), "value nan"),
    Mutant("extreme_log_variance", UnboundedVariance(), "value inf"),
    Mutant("one_class", BalancedByDifferent(), "value (inf|nan)"),
    Mutant("every_label_different", BalancedBySame(), "value (inf|nan)"),
    Mutant("empty_batch", NothingByNothing(), "nan, expected 0"),
    Mutant("empty_batch", ZeroWithoutAGraph(), "no graph"),
    Mutant("one_item", SpreadOfOne(), "value inf"),
    Mutant("everything_ignored", NothingLeft(), "nan, expected 0"),
    Mutant("ignored_targets_do_not_count", IgnoredCount(), "expected"),
    Mutant("zero_histogram_is_refused", TrustingHistograms(form="probs"), "was accepted"),
    Mutant("rounding", NarrowArithmetic(), "off by"),
    Mutant("half_precision_accumulates_in_float32", ResultInHalf(), "the value is torch.b?float16"),
]
