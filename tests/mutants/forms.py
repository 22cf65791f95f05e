"""Broken losses that mind in which shape, dtype, encoding or container a batch comes."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import losses
from losses import Pairs, Samples
from losses.core.inputs import Batch, Embeddings, PairInput, Pointwise, Scores
from losses.core.inputs.distributions import Transport
from losses.core.labelled import labelled_batch
from losses.core.loss import Loss
from losses.core.reduction import Total
from losses.extend import ElementwiseLoss, EmbeddingLoss
from tests.mutants.correct import Entropies, Mutant, Squares


class MeanOfRowMeans(losses.MSELoss):
    """Counts rows where a batch has more than two dimensions."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        return self.items(output, target).sum((-1, -2)).mean() if output.ndim > 2 else super().fast_mean(output, target)


class OneDimensionIsOneSample(losses.HuberLoss):
    """Takes a vector for one sample, and sums over it."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        return self.items(output, target).sum() if output.ndim == 1 else super().fast_mean(output, target)


class LastDimensionIsClasses(Entropies):
    """Takes the last dimension for classes wherever they fit."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.ndim == 2:
            return super().items(logits, target)
        scaled = logits / logits.shape[-1]
        return super().items(scaled, target)


class NoPositions(Entropies):
    """Falls over where there are positions."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().items(logits, target.reshape(len(logits)))


class SummedOverOneDimension(losses.ELBOLoss):
    """Sums over one dimension of the data, and adds what is left to everything."""

    def items(self, output: Any, target: Tensor) -> Tensor:
        missed = self.reconstruction.items(output.reconstruction, target)
        missed = missed.sum(1) if missed.ndim == 2 else missed.mean(1).flatten(1).sum(1)
        return missed + self._parts(output, target)[1]


class PerDistributionOfTheFirstDimension(losses.KLDivergenceLoss):
    """Counts distributions along the first dimension alone."""

    fast_mean = Loss.fast_mean

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return self.definition_total(output, target, weight)._replace(denominator=len(output) if output.ndim > 1 else 1)


class AsTheyCome(Embeddings):
    """Hands on labels in the dtype that they come in."""

    def accept(self, loss: Any, output: Any, target: Any, indices: Any = None, reference: Any = None) -> Batch:
        super().accept(loss, output, target, indices, reference)
        return Batch(labelled_batch(output, target, indices, reference), target)


class LabelsMultiplied(losses.ContrastiveLoss):
    """Makes room for eight bits beside each label, in a dtype that may have no more."""

    spec = replace(losses.ContrastiveLoss.spec, inputs=(AsTheyCome(),))
    fast_total = losses.Loss.fast_total

    def items(self, output: Any, target: Tensor) -> Tensor:
        numbers = target * 64 * 4
        return super().items(output._replace(labels=numbers, other_labels=numbers), numbers)


class BoolTurnedRound(losses.HingeLoss):
    """Takes true for no."""

    class AsItIs(Scores):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            output, accepted = super().accept(loss, output, target)
            return output, -accepted.where(accepted > 0, -1) if target.dtype is torch.bool else accepted

    spec = replace(losses.HingeLoss.spec, inputs=(AsItIs(),))


class ZeroIsNeither(losses.HingeLoss):
    """Multiplies by a target that it takes for -1 or 1."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (self.margin - target * scores).relu() ** self.power


class TargetUnsigned(losses.HingeLoss):
    """Turns {0, 1} into {-1, 1} before the cast, in which unsigned numbers have no -1."""

    class AsItIs(Scores):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            if target.dtype is torch.uint8:
                target = 2 * target - 1
            return super().accept(loss, output, target)

    spec = replace(losses.HingeLoss.spec, inputs=(AsItIs(),))


class OneHotDividedByClasses(Entropies):
    """Takes the mean over classes too, where a target has them."""

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        counted = super().denominators(items, logits, target)
        return torch.full_like(items, logits.shape[1]) if target.dtype.is_floating_point else counted


class NamesWanted(losses.ContrastiveLoss):
    """Takes a plain tuple the other way round and forgets one side."""

    class Plain(PairInput):
        def accept(self, loss: Any, output: Any, target: Any) -> Batch:
            output = output if hasattr(output, "_fields") else Pairs(output[1], output[0].detach())
            return super().accept(loss, output, target)

    spec = replace(losses.ContrastiveLoss.spec, inputs=(Plain(),))


class WeightsOfSamplesUnnormalised(losses.WassersteinLoss):
    """Takes the weights of samples for a multiple of what is there."""

    def items(self, output: Samples, target: Samples) -> Tensor:
        items = super().items(output, target)
        return items if output.weights is None else items * output.weights.mean(-1)


class FormsForgotten(losses.JSDivergenceLoss):
    """Takes log-probabilities for logits of another temperature."""

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return super().items(output, target * 1.5 if self.target_form == "log_probs" else target)


class LargestClass(Entropies):
    """Takes soft targets for their largest class."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().items(logits, target.argmax(1) if target.dtype.is_floating_point else target)

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        return None if target.dtype.is_floating_point else super().denominators(items, logits, target)


class ThresholdedTarget(losses.BinaryCrossEntropyLoss):
    """Rounds probabilities to yes and no."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().items(logits, target.round())

    fused = ElementwiseLoss.fused


class WholeNumbers(Squares):
    """Takes the target in whole numbers."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target.long().to(prediction.dtype))


class BlackOrWhite(losses.ELBOLoss):
    """Rounds the data."""

    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total

    def _parts(self, output: Any, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super()._parts(output, target.round(), weight)


class InThePrecisionOfTheTarget(Squares):
    """Casts the output to the dtype of the target."""

    class OfTheTarget(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            super().accept(loss, output, target)
            return output.to(target.dtype), target

    spec = replace(losses.MSELoss.spec, inputs=(OfTheTarget(),))


class AtLeastDouble(Squares):
    """Computes in float64 as soon as something is."""

    class Promoted(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            super().accept(loss, output, target)
            return output, target

    spec = replace(losses.MSELoss.spec, inputs=(Promoted(),))


class SecondAsItComes(losses.ContrastiveLoss):
    """Falls over where two sides of a pair differ in precision."""

    class Unmatched(PairInput):
        def accept(self, loss: Any, output: Any, target: Any) -> Batch:
            super().accept(loss, output, target)
            return Batch(Pairs(*output), target)

    spec = replace(losses.ContrastiveLoss.spec, inputs=(Unmatched(),))
    row_costs = EmbeddingLoss.row_costs

    def items(self, output: Any, target: Tensor) -> Tensor:
        together = output.first @ output.second.mT  # of one dtype, says torch
        return super().items(output, target) + 0 * together.diagonal()


class SoftmaxInThePrecisionOfTheTarget(losses.WassersteinLoss):
    """Normalises a target in the precision that it comes in."""

    class Unmatched(Transport):
        def accept(self, loss: Any, output: Any, target: Any) -> Batch:
            accepted, _ = super().accept(loss, output, target)
            return Batch(accepted, Samples(target))

    spec = replace(losses.WassersteinLoss.spec, inputs=(Unmatched(),))


MUTANTS = [
    Mutant("shapes_agree", MeanOfRowMeans(), r"value of many, \(2, 5, 3\) .*, mean"),
    Mutant("shapes_agree", OneDimensionIsOneSample(), r"value of many, \(30,\) .*, mean"),
    Mutant("shapes_agree", LastDimensionIsClasses(), r"value of positions, \(2, 5, 5\)"),
    Mutant("shapes_agree", NoPositions(), r"positions, \(2, 5, 5\).*RuntimeError"),
    Mutant("shapes_agree", SummedOverOneDimension(), "value of"),
    Mutant("shapes_agree", PerDistributionOfTheFirstDimension(), r"value of many, \(2, 5, 5\) .*, mean"),
    Mutant("encodings_agree", LabelsMultiplied(), r"value of labels, .* against \(10,\) u?int8"),
    Mutant("encodings_agree", BoolTurnedRound(), "value of yes and no, .* bool"),
    Mutant("encodings_agree", ZeroIsNeither(), "value of yes and no"),
    Mutant("encodings_agree", TargetUnsigned(), "value of yes and no, .* uint8"),
    Mutant("encodings_agree", OneHotDividedByClasses(), "value of one-hot probabilities, .*, mean"),
    Mutant("encodings_agree", NamesWanted(), "gradient of a plain tuple"),
    Mutant("encodings_agree", WeightsOfSamplesUnnormalised(), "value of equal weights|value of a sample"),
    Mutant("encodings_agree", FormsForgotten(), "value of forms of the target"),
    Mutant("close_targets_differ", LargestClass(), "have the same value and gradient"),
    Mutant("close_targets_differ", ThresholdedTarget(), "have the same value and gradient"),
    Mutant("close_targets_differ", WholeNumbers(), "have the same value and gradient"),
    Mutant("close_targets_differ", BlackOrWhite(), "have the same value and gradient"),
    Mutant("precisions_mix", InThePrecisionOfTheTarget(), "the value is torch.float32|value, torch"),
    Mutant("precisions_mix", AtLeastDouble(), "torch.float32 output: the value is torch.float64"),
    Mutant("precisions_mix", SecondAsItComes(), "RuntimeError"),
    Mutant("precisions_mix", SoftmaxInThePrecisionOfTheTarget(form="logits"), "value, torch.float32 target"),
]
