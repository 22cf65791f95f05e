"""Broken losses with a right value and a wrong derivative."""

from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Pairs
from losses.core.labelled import LabelledBatch
from tests.mutants.correct import Mutant, PairCosts, Square, Squares


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


MUTANTS = [
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
