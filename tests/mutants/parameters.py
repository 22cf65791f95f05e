"""Broken losses whose parameters are ignored, changed on the way, or counted on some paths alone."""

from typing import Any, ClassVar

import torch
from torch import Tensor

import losses
from losses.core.labelled import LabelledBatch
from losses.core.loss import Loss
from losses.core.parameters import Positive, Reduction, checked
from losses.core.reduction import Total
from losses.extend import ElementwiseLoss, Tiling
from tests.mutants.correct import Mutant, Square


class DeltaIgnored(losses.HuberLoss):
    """Has its own idea of delta."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return losses.HuberLoss().items(prediction, target)

    fused = ElementwiseLoss.fused


class MarginClamped(losses.HingeLoss):
    """Takes no margin above 1."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (min(self.margin, 1.0) - scores.where(target > 0, -scores)).relu() ** self.power


class MarginRounded(losses.HingeLoss):
    """Has a margin in whole numbers."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (round(self.margin) - scores.where(target > 0, -scores)).relu() ** self.power


class WithoutSign(losses.MultiSimilarityLoss):
    """Takes no base below 0."""

    def _value(self, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        settings = self._arguments()
        return losses.MultiSimilarityLoss(**settings | {"base": max(0.0, self.base)})._value(output, target, weight)


class MarginInSingle(losses.HingeLoss):
    """Keeps its margin in float32, which float64 has to live with."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        margin = torch.tensor(self.margin, dtype=torch.float32).to(scores.dtype)
        return (margin - scores.where(target > 0, -scores)).relu() ** self.power


class SwapIgnored(losses.TripletLoss):
    """Never swaps."""

    def _value(self, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        settings = self._arguments() | {"swap": False}
        return losses.TripletLoss(**settings)._value(output, target, weight)


class OneClassWeighsNothing(losses.CrossEntropyLoss):
    """Leaves the last of its weights out."""

    def _weight_of_classes(self, logits: Tensor) -> Tensor | None:
        weights = super()._weight_of_classes(logits)
        return None if weights is None else torch.cat([weights[:-1], weights.new_ones(1)])


class EpsilonForNothing(losses.MultiSimilarityLoss):
    """Never mines."""

    def _value(self, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        unmined = losses.MultiSimilarityLoss(alpha=self.alpha, beta=self.beta, base=self.base, reduction=self.reduction)
        return unmined._value(output, target, weight)


class NestedParameterIgnored(losses.ELBOLoss):
    """Asks a fresh loss of the same name for the reconstruction."""

    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total

    def items(self, output: Any, target: Tensor) -> Tensor:
        fresh = losses.create(self.reconstruction.spec.name)
        missed = fresh.items(output.reconstruction, target).flatten(1).sum(1)
        return missed + self.beta * self._parts(output, target)[1]


class SharedByTheClass(losses.HuberLoss):
    """Keeps its delta on the class, where the last loss that was built overwrites it."""

    latest: ClassVar[float] = 1.0

    @checked
    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(delta=delta, reduction=reduction)
        type(self).latest = delta

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return losses.HuberLoss(delta=type(self).latest).items(prediction, target)

    fused = ElementwiseLoss.fused


class Capped(losses.HuberLoss):
    """Has no delta above 10, whatever it is given."""

    @checked
    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(delta=min(delta, 10.0), reduction=reduction)


class InWholeNumbers(losses.HingeLoss):
    """Keeps two digits of its margin."""

    @checked
    def __init__(self, *, margin: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)
        self.margin = round(margin, 2)


class OtherNameInConfig(losses.HuberLoss):
    """Writes its delta down in another unit."""

    def config(self) -> dict[str, Any]:
        return super().config() | {"delta": 2 * self.delta}


class OtherDefault(losses.HuberLoss):
    """Says one default and has another."""

    @checked
    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(delta=1.35 if delta == 1.0 else delta, reduction=reduction)


class SortedWeights(losses.CrossEntropyLoss):
    """Brings the weights of classes into order."""

    @checked
    def __init__(
        self, *, class_weight: losses.extend.NonNegativeVector | None = None, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(class_weight=None if class_weight is None else sorted(class_weight), reduction=reduction)


class MarginOfConstruction(losses.HingeLoss):
    """Computes with the margin that it was built with."""

    @checked
    def __init__(self, *, margin: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(margin=margin, reduction=reduction)
        self._built = losses.HingeLoss(margin=margin)

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return self._built.items(scores, target)


class MarginOfTheFirstCall(losses.HingeLoss):
    """Computes with the margin of its first call."""

    first: float | None = None

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        if self.first is None:
            self.first = self.margin
        return losses.HingeLoss(margin=self.first, power=self.power).items(scores, target)


class FastPathOfConstruction(losses.HuberLoss):
    """Sums with the delta that it was built with, where its items have the present one."""

    @checked
    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(delta=delta, reduction=reduction)
        self._built = losses.HuberLoss(delta=delta)

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        return self._built.fused(prediction, target, reduction)


class ReductionOfConstruction(losses.MSELoss):
    """Reduces as it was built to."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self._first = reduction

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return losses.MSELoss(reduction=self._first)(output, target, **options)


class FastPathOfDefaults(losses.HuberLoss):
    """Has the default delta in its fused function."""

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        return losses.HuberLoss().fused(prediction, target, reduction)


class TotalWithoutSmoothing(losses.BinaryCrossEntropyLoss):
    """Smooths labels in the mean and forgets to in the sum."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total: Total = losses.BinaryCrossEntropyLoss().definition_total(output, target, weight)
        return total


class GradientOfDefaults(losses.HuberLoss):
    """Has the default delta in a derivative of its own."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        slope = Square.apply(residual, lambda upstream, saved, kept: upstream * saved.clamp(-1, 1))
        return super().items(prediction, target).detach() + (slope - slope.detach())

    fused = ElementwiseLoss.fused


class TilesOfDefaults(losses.CircleLoss):
    """Has the default margin in its blocks."""

    def tiling(self, batch: LabelledBatch) -> Tiling:
        return losses.CircleLoss(scale=self.scale).tiling(batch)


class SoftInBlocksAlone(losses.TripletLoss):
    """Takes a soft margin for a margin of 0 in its definition."""

    def items(self, output: Any, target: Tensor | None) -> Tensor:
        margin = 0.0 if self.margin == "soft" else self.margin
        return losses.TripletLoss(margin=margin, distance=self.distance, mining=self.mining).items(output, target)


class NoBase(losses.ContrastiveLoss):
    """Divides by a margin that may be 0."""

    fast_mean = Loss.fast_mean

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> None:
        return None

    def items(self, output: Any, target: Tensor) -> Tensor:
        return super().items(output, target) / self.positive_margin


class WeightOfPositivesForAll(losses.BinaryCrossEntropyLoss):
    """Weighs all targets in the sum where there is a weight of positive ones."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if weight is None and isinstance(self.positive_weight, float):
            plain = losses.BinaryCrossEntropyLoss(label_smoothing=self.label_smoothing)
            return Total(self.positive_weight * plain.items(output, target).sum(), output.numel())
        return super().fast_total(output, target, weight)


class ReferenceWithDefaults(losses.ContrastiveLoss):
    """Has the default margin where it is compared with a reference."""

    fast_mean = Loss.fast_mean

    def _total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        other = losses.ContrastiveLoss() if getattr(output, "has_reference", False) else super()
        total: Total = other._total(output, target, weight)
        return total


class IndicesWithDefaults(losses.TripletLoss):
    """Has the default margin for triplets of a miner."""

    fast_mean = Loss.fast_mean

    def _total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        other = losses.TripletLoss() if getattr(output, "indices", None) is not None else super()
        total: Total = other._total(output, target, weight)
        return total


MUTANTS = [
    Mutant("parameters_count", DeltaIgnored(), "delta=.* make no difference on any batch, with any option"),
    Mutant("parameters_count", MarginClamped(), "margin=1.625 .* clamped or rounded"),
    Mutant("parameters_count", MarginRounded(), "margin=0.3125 .* rounded to integers"),
    Mutant("parameters_count", WithoutSign(), "base=-0.3125 .* clamped or rounded"),
    Mutant("parameters_count", MarginInSingle(), "margin=0.3125 .* digits are lost"),
    Mutant("parameters_count", SwapIgnored(), "swap=.* make no difference"),
    Mutant("parameters_count", OneClassWeighsNothing(), "entry 4 of class_weight makes no difference"),
    Mutant("parameters_count", EpsilonForNothing(), "mining_epsilon=.* make no difference"),
    Mutant("parameters_count", NestedParameterIgnored(), "reconstruction=.*delta.* make no difference"),
    Mutant("parameters_count", SharedByTheClass(), "delta=.* make no difference"),
    Mutant("parameters_read_back", Capped(), "delta=312 became 10.0"),
    Mutant("parameters_read_back", InWholeNumbers(), "margin=0.3125 became 0.31"),
    Mutant("parameters_read_back", OtherNameInConfig(), r"delta=.* is .* in config\(\)"),
    Mutant("parameters_read_back", OtherDefault(), "the default of delta is 1.0, without arguments it is 1.35"),
    Mutant("parameters_read_back", SortedWeights(), r"class_weight=.* became"),
    Mutant("parameters_set_later", MarginOfConstruction(), "margin set to"),
    Mutant("parameters_set_later", MarginOfTheFirstCall(), "margin set to"),
    Mutant("parameters_set_later", FastPathOfConstruction(), "delta set to .*, mean"),
    Mutant("parameters_set_later", ReductionOfConstruction(), "reduction set to"),
    Mutant("parameters_on_every_path", FastPathOfDefaults(), "delta=1.625, sum"),
    Mutant("parameters_on_every_path", TotalWithoutSmoothing(), "label_smoothing=.*, sum"),
    Mutant("parameters_on_every_path", GradientOfDefaults(), "delta=1.625, gradient against differences"),
    Mutant("parameters_on_every_path", TilesOfDefaults(), "margin=1.625, in several blocks, sum"),
    Mutant("parameters_on_every_path", SoftInBlocksAlone(), "margin='soft', sum"),
    Mutant("parameters_on_every_path", ReferenceWithDefaults(), "none with reference="),
    Mutant("parameters_on_every_path", IndicesWithDefaults(), "none with indices="),
    Mutant("parameters_on_every_path", NoBase(positive_margin=0.5), "nan|inf"),
    Mutant("parameters_on_every_path", WeightOfPositivesForAll(), "positive_weight=1.625, sum"),
]
