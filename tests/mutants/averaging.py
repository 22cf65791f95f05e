"""Broken losses that average, weigh or sum as nothing else here does."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import losses
from losses.core.inputs import Batch, Pointwise
from losses.core.loss import Loss
from losses.core.reduction import Total
from tests.mutants.correct import AsItComes, Mutant, Square, Squares


class MeanOverColumns(losses.MSELoss):
    """Takes the mean over one axis and the sum over the other."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target).mean(0).sum()


class WeightsUncounted(losses.MSELoss):
    """Divides by the number of items where their weights should be summed."""

    fast_weighted_mean = Loss.fast_weighted_mean

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return self.definition_total(output, target, weight)._replace(denominator=output.numel())


class WeightsDropped(losses.MSELoss):
    """Takes weights and never looks at them."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options)


class WeightsForgottenInSums(losses.MSELoss):
    """Weighs items, and forgets to where they are summed."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return self.definition_total(output, target, None)


class WeightsNormalised(losses.MSELoss):
    """Makes weights sum to 1, so that no sum knows them again."""

    def item_weights(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight / weight.sum()


class NotMasking(losses.MSELoss):
    """Multiplies what has weight 0 by 0, which NaN survives."""

    class Bare(Pointwise):
        def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
            return Batch(output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Bare(),))


class UnguardedDenominator(losses.MSELoss):
    """Divides by the sum of the weights whatever it is."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        if weight is None:
            return super().forward(output, target, **options)
        total = self.total(output, target, weight=weight)
        return total.sum / total.denominator


class NormalizerIgnored(losses.MSELoss):
    """Takes a normalizer and divides by its own count."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options)


class BatchStatistics(Squares):
    """Measures errors by the spread of the batch that they come in."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / target.std(0)


class SumInHalf(Squares):
    """Sums in half precision and divides afterwards."""

    spec = replace(losses.MSELoss.spec, inputs=(AsItComes(),))


class CountedInHalf(Squares):
    """Counts items in float16, which ends at 65,504."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        total = self.definition_total(output, target, weight)
        number = torch.ones(output.shape, dtype=torch.float16).sum()
        return total if weight is not None else total._replace(denominator=number.to(output.dtype))


class PairsCountedInHalf(losses.ContrastiveLoss):
    """Counts pairs in the half precision that embeddings come in."""

    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total

    def denominators(self, items: Tensor, output: Any, target: Any) -> Tensor:
        number = torch.ones(items.shape, dtype=torch.float16).sum()
        return number.to(items.dtype) / items.numel() * torch.ones_like(items)


class GradientDividedInHalf(Squares):
    """Has a backward that counts items in float16."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        def slope(upstream: Tensor, saved: Tensor, kept: Tensor) -> Tensor:
            number = torch.ones(saved.shape, dtype=torch.float16).sum()
            return 2 * upstream * saved * (saved.numel() / number.to(saved.dtype))

        return Square.apply(prediction - target, slope)


MUTANTS = [
    Mutant("reductions_agree", MeanOverColumns(), "'mean' against total"),
    Mutant("reductions_agree", NormalizerIgnored(), "normalizer=2"),
    Mutant("weight_of_one_changes_nothing", WeightsUncounted(), "weight=2, mean"),
    Mutant("weight_of_one_changes_nothing", WeightsDropped(), "weight=2, sum"),
    Mutant("weight_of_one_changes_nothing", WeightsNormalised(), "weight=2, sum"),
    Mutant("weights_agree", WeightsForgottenInSums(), "'none' against 'sum'"),
    Mutant("zero_weight_hides", WeightsDropped(), "NaN at weight 0: nan"),
    Mutant("zero_weight_hides", NotMasking(), "gradient with NaN at weight 0"),
    Mutant("zero_weight_hides", WeightsUncounted(), "value without it"),
    Mutant("all_weights_zero", UnguardedDenominator(), "nan, expected 0"),
    Mutant("halves_make_the_whole", NormalizerIgnored(), "sum over halves"),
    Mutant("halves_make_the_whole", BatchStatistics(), "sum over halves"),
    Mutant("many_items", SumInHalf(), "value inf|exactly"),
    Mutant("many_items", CountedInHalf(), "value inf"),
    Mutant("many_items", PairsCountedInHalf(), "value inf"),
    Mutant("many_items", GradientDividedInHalf(), "the gradient is off"),
]
