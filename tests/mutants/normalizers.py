"""Broken losses that take a normalizer for something else than it is, or have no derivative by it or with weights."""

from typing import Any

import torch
from torch import Tensor

from losses.core.reduction import Total
from tests.mutants.averaging import NormalizerIgnored
from tests.mutants.correct import Mutant, Squares
from tests.mutants.weights import WeightedGradientAlone


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


class DifferentiableUnweighted(Squares):
    """Has a second derivative that forgets the weights."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        total = self.definition_total(output, target, weight)
        return total if weight is None else total._replace(sum=OnceWeighted.apply(output - target, weight))


class OnceWeighted(torch.autograd.Function):
    """A weighted sum of squares whose gradient is that of a constant weight of 1, once it is differentiated."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(residual, weight)
        return (residual.square() * weight.unsqueeze(1)).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        residual, weight = ctx.saved_tensors
        gradient = 2 * upstream * residual
        return gradient + (gradient * (weight.unsqueeze(1) - 1)).detach(), None


class GradientOfMeanWeights(Squares):
    """Has the weighted value with the gradient of weights that are all alike."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if weight is None:
            return None
        weighted, alike = (self.definition_total(output, target, part) for part in (weight, torch.ones_like(weight)))
        return weighted._replace(sum=alike.sum + (weighted.sum - alike.sum).detach())


class TrustingNormalizers(Squares):
    """Divides by anything, in a way of its own."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        if normalizer is None:
            return super().forward(output, target, **options)
        return self.total(output, target, **options).sum / torch.as_tensor(float(normalizer), dtype=output.dtype)


class TrustingNormalizerTensors(Squares):
    """Looks at normalizers that are numbers alone."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        if isinstance(normalizer, Tensor):
            return self.total(output, target, **options).sum / normalizer.sum()
        return super().forward(output, target, normalizer=normalizer, **options)


class NormalizerOfSums(Squares):
    """Takes a normalizer for a sum, and forgets it."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        normalizer = normalizer if self.reduction == "mean" else None
        return super().forward(output, target, normalizer=normalizer, **options)


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
    Mutant("normalizer_replaces_the_denominator", NormalizerIgnored(), "normalizer=3"),
    Mutant("normalizer_replaces_the_denominator", NormalizerOnTop(), "normalizer=3"),
    Mutant("normalizer_replaces_the_denominator", NormalizerInFull(), "normalizer=1e-06"),
    Mutant("normalizer_replaces_the_denominator", NormalizerOrWeights(), "normalizer="),
    Mutant("normalizer_replaces_the_denominator", NormalizerOfTheValueAlone(), "gradient, normalizer="),
    Mutant("derivative_by_weights", DetachedWeights(), "weights get no gradient"),
    Mutant("derivative_by_weights", DetachedDenominator(), "gradient by the weights"),
    Mutant("derivative_by_weights", NormalizerAsANumber(), "normalizer get"),
    Mutant("derivative_by_weights", LearntWeightsMoveNothing(), "gradient with weights that require grad|no graph"),
    Mutant("derivatives_with_weights", DifferentiableUnweighted(), "second derivative"),
    Mutant("derivatives_with_weights", WeightedGradientAlone(), "first derivative"),
    Mutant("derivatives_with_weights", GradientOfMeanWeights(), "first derivative"),
    Mutant("bad_normalizers_are_refused", TrustingNormalizers(), "normalizer=-1 is accepted"),
    Mutant("bad_normalizers_are_refused", TrustingNormalizerTensors(), "normalizer=tensor.* is accepted"),
    Mutant("bad_normalizers_are_refused", NormalizerOfSums(), "beside reduction=.* is accepted"),
    Mutant("compiles_with_weights", BranchingOnWeights(), "[Dd]ata-dependent"),
    Mutant("compiles_with_weights", WeightsAsNumbers(), "tolist|[Dd]ata-dependent|graph"),
    Mutant("compiles_with_weights", UnweightedInCompiledCode(), "value, compiled"),
    Mutant("inputs_stay_untouched", WeightsDividedInPlace(), "an input changed"),
    Mutant("inputs_stay_untouched", NormalizerClampedInPlace(), "an input changed"),
    Mutant("inputs_stay_untouched", TargetsThatRequireGrad(), "requires grad"),
    Mutant("no_synchronisation", NormalizerAsANumber(), "reads values"),
    Mutant("no_synchronisation", BranchingOnWeights(), "reads values"),
]
