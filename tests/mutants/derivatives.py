"""Broken losses with a right value and a wrong derivative."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Pairs
from losses.core.labelled import LabelledBatch
from tests.mutants.correct import Absolutes, Mutant, PairCosts, Square, Squares


class DetachedOutput(Squares):
    """Lets half of the gradient through."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * (prediction - target).detach()


class ThroughData(Squares):
    """Uses .data in the middle of a formula."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * (prediction.data - target)


class DetachedSide(PairCosts):
    """Moves one side of a pair only."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(
            Pairs(output.first, output.second.detach()) if isinstance(output, Pairs) else output, target
        )


class WrongBackward(Squares):
    """Forgets the 2 in a backward of its own."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: upstream * saved)


class OnceDifferentiable(Squares):
    """Has a backward that cannot be differentiated."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(
            prediction - target, once_differentiable(lambda upstream, saved, kept: 2 * upstream * saved)
        )


class SilentlyOnceDifferentiable(Squares):
    """Has a backward whose own gradient lacks a term, without an error."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * kept)


class BackwardOnly(Squares):
    """Has a backward of its own and no forward mode."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class SquareWithTangent(Square):
    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.kept * tangent


class WrongTangent(Squares):
    """Forgets the 2 in a forward mode of its own."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return SquareWithTangent.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class UpstreamIgnored(Squares):
    """Has a backward that takes the gradient of what follows for 1."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * saved)


class BackwardInPlace(Squares):
    """Has a backward that overwrites what it needs the next time."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: kept.mul_(2) * upstream)


class ClampedFarOut(Squares):
    """Clips its own gradient where residuals are above 50."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved.clamp(-50, 50))


class DeadZone(Squares):
    """Has no gradient where residuals are below 0.01."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(
            prediction - target, lambda upstream, saved, kept: 2 * upstream * saved.where(saved.abs() > 1e-2, 0)
        )


class LargeBatches(Squares):
    """Has gradients that are half as large again in batches above 512."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        factor = 3 if len(target) > 512 else 2
        return Square.apply(prediction - target, lambda upstream, saved, kept: factor * upstream * saved)


class TooSteepAtTheKink(Absolutes):
    """Has the gradient 3 at the kink, where all between -1 and 1 would do."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        return torch.where(residual == 0, 3 * residual, residual.abs())


class FlatAtTheTarget(Squares):
    """Is log cosh, made of |r|, whose second derivative is lost where predictions are exact."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        size = (prediction - target).abs()
        return size + (-2 * size).exp().log1p() - math.log(2)


MUTANTS = [
    Mutant("gradient_everywhere", ClampedFarOut(), "with times 100"),
    Mutant("gradient_everywhere", DeadZone(), "with times 0.001|0.001 beside"),
    Mutant("gradient_everywhere", LargeBatches(), "with 530 samples"),
    Mutant("gradient_everywhere", TooSteepAtTheKink(), "with at integers"),
    Mutant("second_derivative", FlatAtTheTarget(), "at integers, in the gradient"),
    Mutant("first_derivative", DetachedOutput(), "Jacobian mismatch"),
    Mutant("first_derivative", ThroughData(), "Jacobian mismatch"),
    Mutant("first_derivative", DetachedSide(), "Jacobian mismatch"),
    Mutant("first_derivative", WrongBackward(), "Jacobian mismatch"),
    Mutant("second_derivative", OnceDifferentiable(), "Jacobian mismatch"),
    Mutant("second_derivative", SilentlyOnceDifferentiable(), "Jacobian mismatch"),
    Mutant("forward_mode", BackwardOnly(), "forward AD|forward mode"),
    Mutant("forward_mode", WrongTangent(), "forward mode"),
    Mutant("backward_twice", UpstreamIgnored(), "grad_output of -3"),
    Mutant("backward_twice", BackwardInPlace(), "the second backward"),
]
