"""Broken losses that take weights or a normalizer for something else than they are."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import losses
from losses.core.inputs import Batch, Pointwise
from losses.core.labelled import LabelledBatch, each_pair_once
from losses.core.loss import Loss
from losses.core.outputs import Pairs
from losses.core.reduction import Total
from tests.mutants.averaging import NormalizerIgnored, WeightsNormalised
from tests.mutants.correct import AsItComes, Mutant, PairCosts, Squares


class AnchorCosts(losses.SupervisedContrastiveLoss):
    fast_total = Loss.fast_total


class MatchCosts(losses.InfoNCELoss):
    fast_total = Loss.fast_total


class TripletCosts(losses.TripletLoss):
    fast_total = Loss.fast_total


class RootsOfWeights(Squares):
    """Multiplies residuals by the root of a weight, and forgets their square."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.sqrt()


class WeightsUpToTwo(Squares):
    """Clips weights at what was large once."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.clamp(max=2)


class WeightsReversed(Squares):
    """Gives the weight of the first to the last."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.flip(0)


class AverageWeight(Squares):
    """Weighs everything alike, by the average."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.mean().expand(weight.shape)


class CountingTheWeighted(Squares):
    """Divides by how many weigh something."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.definition_total(output, target, weight)
        return total if weight is None else total._replace(denominator=(weight > 0).sum() * output.shape[1])


class WeightedGradientAlone(Squares):
    """Has the plain value with the weighted gradient."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        weighted, plain = (self.definition_total(output, target, part) for part in (weight, None))
        return weighted._replace(sum=weighted.sum + (plain.sum - weighted.sum).detach())


class WeightOfThePositive(TripletCosts):
    """Weighs a triplet by its positive."""

    def item_weights(self, weight: Tensor, output: Any, target: Any) -> Tensor:
        if not isinstance(output, LabelledBatch):
            return weight
        positive = (output.positive.unsqueeze(2) & output.negative.unsqueeze(1)).nonzero()[:, 1]
        return weight[positive]


class WeightOfTheClass(AnchorCosts):
    """Weighs an anchor by the average of its class."""

    def item_weights(self, weight: Tensor, output: LabelledBatch, target: Tensor) -> Tensor:
        same = (~output.negative).to(weight.dtype) if not output.has_reference else torch.eye(len(weight)).double()
        return (same * weight).sum(1) / same.sum(1)


class WeightOfTheBatch(MatchCosts):
    """Weighs every row by the average of all."""

    def item_weights(self, weight: Tensor, output: Any, target: Any) -> Tensor:
        return super().item_weights(weight.mean().expand(weight.shape), output, target)


class ProductOfBothEnds(PairCosts):
    """Weighs a pair by the product of the weights of its ends."""

    def pair_weights(self, weight: Tensor, output: LabelledBatch | Pairs) -> Tensor:
        if isinstance(output, Pairs) or output.indices is not None or output.has_reference:
            return super().pair_weights(weight, output)
        first, second = each_pair_once(len(weight), weight.device)
        return weight[first] * weight[second]


class LargerOfBothEnds(PairCosts):
    """Weighs a pair by the larger of the weights of its ends."""

    def pair_weights(self, weight: Tensor, output: LabelledBatch | Pairs) -> Tensor:
        if isinstance(output, Pairs) or output.indices is not None or output.has_reference:
            return super().pair_weights(weight, output)
        first, second = each_pair_once(len(weight), weight.device)
        return torch.maximum(weight[first], weight[second])


class WeightsUpToAThousand(Squares):
    """Clips what looks like an outlier among the weights."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.clamp(max=1000)


class SortedWeights(Squares):
    """Sorts weights, and not what they weigh."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.sort(0).values


class EpsilonInTheDenominator(Squares):
    """Adds 1e-8 to a denominator, so that it is not 0."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.definition_total(output, target, weight)
        return total if weight is None else total._replace(denominator=total.denominator + 1e-8)


class DenominatorOfAtLeastOne(Squares):
    """Divides by 1 where the weights sum to less."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.definition_total(output, target, weight)
        return total if weight is None else total._replace(denominator=total.denominator.clamp(min=1))


class WeightsInHalf(Squares):
    """Keeps weights in float16, where a million is infinite and a millionth is 0."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.half().to(weight.dtype)


class SmallWeightsAreNothing(Squares):
    """Takes small weights for 0."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.masked_fill(weight < 1e-6, 0)


class WeightsInTheDtypeOfTheBatch(Squares):
    """Weighs in half precision where the batch comes in it."""

    spec = replace(losses.MSELoss.spec, inputs=(AsItComes(),))

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.to(output.dtype)


class WeightsOfTheFirstColumn(Squares):
    """Takes one weight per row where there is one per element."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight[:, 0] if weight.ndim > 1 else weight


class WeightsOfRowsOnAverage(Squares):
    """Averages the weights of a row."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.mean(1) if weight.ndim > 1 else weight


class WiderForItsWeights(Squares):
    """Returns float64 where weights come in it."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        value = super().forward(output, target, weight=weight, **options)
        return value if weight is None else value.to(torch.promote_types(value.dtype, weight.dtype))


class MaskMeansIgnore(Squares):
    """Takes True for what does not count."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        weight = ~weight if weight is not None and weight.dtype is torch.bool else weight
        return super().forward(output, target, weight=weight, **options)


class MaskingRowsAlone(Squares):
    """Hides what is NaN where a whole row weighs nothing, and no single element."""

    class OfRows(Pointwise):
        def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
            return super().mask(loss, output, target, weight) if weight.ndim == 1 else Batch(output, target)

    spec = replace(losses.MSELoss.spec, inputs=(OfRows(),))


class NormalizerOnTop(Squares):
    """Divides by a normalizer what was divided by its own denominator."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        value = super().forward(output, target, **options)
        return value if normalizer is None else value / normalizer


class NormalizerInFull(Squares):
    """Takes a normalizer for a whole number."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        whole = None if normalizer is None else max(1, int(normalizer))
        return super().forward(output, target, normalizer=whole, **options)


class NormalizerOrWeights(Squares):
    """Forgets weights where there is a normalizer."""

    def forward(
        self, output: Any, target: Any = None, *, normalizer: Any = None, weight: Any = None, **options: Any
    ) -> Tensor:
        weight = weight if normalizer is None else None
        return super().forward(output, target, normalizer=normalizer, weight=weight, **options)


class NormalizerOfTheValueAlone(Squares):
    """Divides the value by a normalizer and the gradient by its own denominator."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        mean = super().forward(output, target, **options)
        if normalizer is None:
            return mean
        return mean + (super().forward(output, target, normalizer=normalizer, **options) - mean).detach()


class DetachedWeights(Squares):
    """Takes weights for constants."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight.detach()


class DetachedDenominator(Squares):
    """Takes the sum of the weights for a constant."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.definition_total(output, target, weight)
        return total if weight is None else total._replace(denominator=total.denominator.detach())


class NormalizerAsANumber(Squares):
    """Reads a normalizer, which then has no gradient."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        number = None if normalizer is None else torch.as_tensor(normalizer).detach().item()
        return super().forward(output, target, normalizer=number, **options)


class LearntWeightsMoveNothing(Squares):
    """Gives the output no gradient where the weights want one."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction.detach() if self.frozen else prediction, target)

    frozen = False

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        self.frozen = weight is not None and weight.requires_grad
        return super().forward(output, target, weight=weight, **options)


class BranchingOnWeights(Squares):
    """Looks whether there is any weight."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if weight is not None and weight.sum() == 0:
            return Total(output.sum() * 0, 1)
        return None


class WeightsAsNumbers(Squares):
    """Makes a list of the weights."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return torch.tensor(weight.tolist(), dtype=weight.dtype)


class UnweightedInCompiledCode(Squares):
    """Takes a shorter way where it is compiled, without weights."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        return self.definition_total(output, target, None) if torch.compiler.is_compiling() else None


class WeightsDividedInPlace(Squares):
    """Makes the caller's weights average to 1."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        weight = weight if weight is None else weight.div_(weight.mean())
        return super().forward(output, target, weight=weight, **options)


class NormalizerClampedInPlace(Squares):
    """Sees to it that the caller's normalizer is no more than 1."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        normalizer = normalizer.clamp_(max=1) if isinstance(normalizer, Tensor) else normalizer
        return super().forward(output, target, normalizer=normalizer, **options)


class TargetsThatRequireGrad(Squares):
    """Asks for a gradient that the caller did not want."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target.requires_grad_())


MUTANTS = [
    Mutant("weight_counts_copies", RootsOfWeights(), "value"),
    Mutant("weight_counts_copies", WeightsUpToTwo(), "value"),
    Mutant("weight_counts_copies", WeightsReversed(), "value"),
    Mutant("weight_counts_copies", AverageWeight(), "value"),
    Mutant("weight_counts_copies", CountingTheWeighted(), "value"),
    Mutant("weight_counts_copies", WeightsNormalised(), "sum"),
    Mutant("weight_counts_copies", WeightedGradientAlone(), "value"),
    Mutant("weight_is_of_the_anchor", WeightOfThePositive(margin=1.0), "value"),
    Mutant("weight_is_of_the_anchor", WeightOfTheClass(), "value"),
    Mutant("weight_is_of_the_anchor", WeightOfTheBatch(), "value|weigh something"),
    Mutant("weights_add_up", ProductOfBothEnds(), "value"),
    Mutant("weights_add_up", LargerOfBothEnds(), "value"),
    Mutant("weights_add_up", WeightsUpToAThousand(), "value"),
    Mutant("weights_add_up", SortedWeights(), "value|permuted"),
    Mutant("scale_of_weights", EpsilonInTheDenominator(), "mean, weights times"),
    Mutant("scale_of_weights", DenominatorOfAtLeastOne(), "mean, weights times"),
    Mutant("scale_of_weights", WeightsInHalf(), "mean, weights times"),
    Mutant("scale_of_weights", SmallWeightsAreNothing(), "mean, weights times"),
    Mutant("scale_of_weights", WeightsInTheDtypeOfTheBatch(), "mean, "),
    Mutant("weights_of_every_form", WeightsOfTheFirstColumn(), r"items, weights \(8, 3\)"),
    Mutant("weights_of_every_form", WeightsOfRowsOnAverage(), r"items, weights \(8, 3\)"),
    Mutant("weights_of_every_form", WiderForItsWeights(), "make a result of torch.float64"),
    Mutant("weights_of_every_form", MaskMeansIgnore(), "weights of bool"),
    Mutant("weights_of_every_form", MaskingRowsAlone(), "NaN in one item"),
    Mutant("normalizer_replaces_the_denominator", NormalizerIgnored(), "normalizer=3"),
    Mutant("normalizer_replaces_the_denominator", NormalizerOnTop(), "normalizer=3"),
    Mutant("normalizer_replaces_the_denominator", NormalizerInFull(), "normalizer=1e-06"),
    Mutant("normalizer_replaces_the_denominator", NormalizerOrWeights(), "normalizer="),
    Mutant("normalizer_replaces_the_denominator", NormalizerOfTheValueAlone(), "gradient, normalizer="),
    Mutant("derivative_by_weights", DetachedWeights(), "weights get no gradient"),
    Mutant("derivative_by_weights", DetachedDenominator(), "gradient by the weights"),
    Mutant("derivative_by_weights", NormalizerAsANumber(), "normalizer get"),
    Mutant("derivative_by_weights", LearntWeightsMoveNothing(), "gradient with weights that require grad|no graph"),
    Mutant("compiles_with_weights", BranchingOnWeights(), "[Dd]ata-dependent"),
    Mutant("compiles_with_weights", WeightsAsNumbers(), "tolist|[Dd]ata-dependent|graph"),
    Mutant("compiles_with_weights", UnweightedInCompiledCode(), "value, compiled"),
    Mutant("inputs_stay_untouched", WeightsDividedInPlace(), "an input changed"),
    Mutant("inputs_stay_untouched", NormalizerClampedInPlace(), "an input changed"),
    Mutant("inputs_stay_untouched", TargetsThatRequireGrad(), "requires grad"),
    Mutant("no_synchronisation", NormalizerAsANumber(), "reads values"),
    Mutant("no_synchronisation", BranchingOnWeights(), "reads values"),
]
