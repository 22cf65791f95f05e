"""Broken losses that take weights or a normalizer for something else than they are."""

from collections.abc import Callable
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
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import Tiling
from tests.mutants.averaging import WeightsNormalised
from tests.mutants.correct import AsItComes, Mutant, PairCosts, Squares


class AnchorCosts(losses.SupervisedContrastiveLoss):
    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total


class MatchCosts(losses.InfoNCELoss):
    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total


class TripletCosts(losses.TripletLoss):
    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total


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


def in_blocks(tiling: Tiling | None, change: Callable[[Tensor, Any], Tensor]) -> Tiling | None:
    """Return a tiling that changes weights ``(N, 1)`` on their way."""
    if tiling is None:
        return None

    def function(tiles: Any, classes: Any, weight: Tensor | None) -> TileSums:
        return tiling.function(tiles, classes, None if weight is None else change(weight, classes))

    return tiling._replace(function=function)


class WeightsInTheOrderOfTheBatch(losses.SupervisedContrastiveLoss):
    """Gives weights in the order of the batch to anchors in the order of their classes."""

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        return in_blocks(super().tiling(batch), lambda weight, classes: weight[torch.argsort(classes.rows)])


class WeightsOfTheFirstBlock(losses.CircleLoss):
    """Gives the weights of the first block of anchors to the anchors of every block."""

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        rows = sizes().rows
        return in_blocks(super().tiling(batch), lambda weight, _: weight[torch.arange(len(weight)) % rows])


class UnweightedDenominator(losses.TripletLoss):
    """Divides the weighted sum of a whole batch by the number of its triplets."""

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total | None:
        total = super().fast_total(output, target, weight)
        if weight is None or total is None:
            return total
        return total._replace(denominator=super().fast_total(output, target, None).denominator)


class GradientOfTheUnweighted(losses.MultiSimilarityLoss):
    """Has the weighted sum with a gradient that forgets the weights."""

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total | None:
        total = super().fast_total(output, target, weight)
        if weight is None or total is None:
            return total
        plain = super().fast_total(output, target, None).sum
        return total._replace(sum=plain + (total.sum - plain).detach())


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
    Mutant("weighted_definition_equals_fast_path", WeightsInTheOrderOfTheBatch(), "sum"),
    Mutant("weighted_definition_equals_fast_path", WeightsOfTheFirstBlock(), "sum.*, in several blocks"),
    Mutant("weighted_definition_equals_fast_path", UnweightedDenominator(), "denominator"),
    Mutant("weighted_definition_equals_fast_path", GradientOfTheUnweighted(), "gradient"),
    Mutant("scale_of_weights", EpsilonInTheDenominator(), "mean, weights times"),
    Mutant("scale_of_weights", DenominatorOfAtLeastOne(), "mean, weights times"),
    Mutant("scale_of_weights", WeightsInHalf(), "mean, weights times"),
    Mutant("scale_of_weights", SmallWeightsAreNothing(), "mean, weights times"),
    Mutant("scale_of_weights", WeightsInTheDtypeOfTheBatch(), "mean, "),
    Mutant("weights_of_every_form", WeightsOfTheFirstColumn(), r"items, weights \(10, 3\)"),
    Mutant("weights_of_every_form", WeightsOfRowsOnAverage(), r"items, weights \(10, 3\)"),
    Mutant("weights_of_every_form", WiderForItsWeights(), "make a result of torch.float64"),
    Mutant("weights_of_every_form", MaskMeansIgnore(), "weights of bool"),
    Mutant("weights_of_every_form", MaskingRowsAlone(), "NaN in one item"),
]
