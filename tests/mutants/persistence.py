"""Broken losses that do not come back from a configuration, a copy or a checkpoint as they were."""

from fractions import Fraction
from typing import Any

from torch import Tensor

import losses
from losses.core.parameters import Reduction, checked
from tests.mutants.correct import Mutant, Squares
from tests.mutants.invariances import ScaledByTheFirst


class ForgetfulConfig(losses.HuberLoss):
    """Does not write down its delta."""

    def config(self) -> dict[str, Any]:
        return {"name": "huber", "reduction": self.reduction}

    def _get_name(self) -> str:
        return "HuberLoss"  # or the name of the class would give it away


class DefaultConfig(losses.HuberLoss):
    """Writes down the default in place of its delta."""

    def config(self) -> dict[str, Any]:
        return {"name": "huber", "delta": 1.0, "reduction": self.reduction}

    def extra_repr(self) -> str:
        return "delta=1.0, reduction='mean'"  # or it would be seen without a batch

    def _get_name(self) -> str:
        return "HuberLoss"


class HoldingALambda(losses.MSELoss):
    """Keeps a lambda, which cannot be pickled."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.transform = lambda value: value


class HoldingItsGraph(Squares):
    """Keeps its last result, which cannot be copied."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.last = super().items(prediction, target)
        return self.last


class ForeignState(losses.MSELoss):
    """Puts into its checkpoint what only unsafe loading reads back."""

    def get_extra_state(self) -> Fraction:
        return Fraction(1, 2)

    def set_extra_state(self, state: Fraction) -> None:
        pass


MUTANTS = [
    Mutant("config_round_trip", ForgetfulConfig(delta=3.0), "became .*delta=1.0"),
    Mutant("config_round_trip", DefaultConfig(delta=3.0), "value: "),
    Mutant("copies", HoldingALambda(), "pickle"),
    Mutant("copies", HoldingItsGraph(), "deepcopy"),
    Mutant("state_dict", ForeignState(), "Weights only load failed"),
    Mutant("state_dict", ScaledByTheFirst(), "restored"),
]
