"""Broken losses that take what makes no sense, or refuse it without a word of help."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import losses
from losses import ConfigError, InputError
from losses.core.inputs import Pointwise
from losses.core.parameters import Positive, Reduction
from tests.mutants.correct import Mutant


class UncheckedParameter(losses.HuberLoss):
    """Takes anything for its delta."""

    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.delta = delta


class NamelessRefusal(losses.HuberLoss):
    """Does not say which of its parameters was wrong."""

    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        try:
            super().__init__(delta=delta, reduction=reduction)
        except ConfigError:
            raise ConfigError("bad value") from None


class TrustingNumbers(losses.MSELoss):
    """Never looks for NaN."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        with losses.checks("never"):
            return super().forward(output, target, **options)


class TrustingTargets(losses.MSELoss):
    """Looks for NaN in the output only."""

    class HalfInspected(Pointwise):
        def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
            super().inspect(loss, output, output)

    spec = replace(losses.MSELoss.spec, inputs=(HalfInspected(),))


class WeightsOfColumns(losses.MSELoss):
    """Broadcasts weights that are one per column."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        if weight is not None and weight.shape == output.shape[1:]:
            weight = weight.expand_as(output)
        return super().forward(output, target, weight=weight, **options)


class CastingIntegers(losses.MSELoss):
    """Casts integers, which have no gradient, without a word."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output.double() if output.dtype is torch.int64 else output, target, **options)


class Broadcasting(losses.MSELoss):
    """Compares all with all where (N, 1) meets (N,)."""

    class Stretched(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            if isinstance(output, Tensor) and output.ndim != target.ndim:
                output, target = torch.broadcast_tensors(output, target)
            return super().accept(loss, output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Stretched(),))


class BroadcastingColumns(losses.MSELoss):
    """Compares every column with the only one there is."""

    class Stretched(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            if isinstance(output, Tensor) and output.ndim == target.ndim == 2 and len(output) == len(target):
                output, target = torch.broadcast_tensors(output, target)
            return super().accept(loss, output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Stretched(),))


class IgnoringTargets(losses.EntropyLoss):
    """Takes a target and does nothing with it."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output, **options)


class Curt(losses.MSELoss):
    """Says no and nothing else."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        try:
            return super().forward(output, target, **options)
        except InputError:
            raise InputError("bad batch") from None


class WithoutAFix(losses.MSELoss):
    """Says what is wrong, and not how to mend it."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        try:
            return super().forward(output, target, **options)
        except InputError as error:
            what = str(error).replace(" (nothing is broadcast)", "").replace("; they must", ", they must")
            raise InputError(what.rpartition("; ")[0] or what) from None


MUTANTS = [
    Mutant("bad_parameters_are_refused", UncheckedParameter(), "delta=nan is accepted"),
    Mutant("bad_parameters_are_refused", NamelessRefusal(), "does not name it"),
    Mutant("bad_batches_are_refused", IgnoringTargets(), "a target where there is none is accepted"),
    Mutant("bad_batches_are_refused", TrustingNumbers(), "NaN.* is accepted"),
    Mutant("bad_batches_are_refused", CastingIntegers(), "integers is accepted"),
    Mutant("bad_batches_are_refused", Broadcasting(), "is accepted"),
    Mutant("bad_batches_are_refused", TrustingTargets(), "is accepted"),
    Mutant("bad_weights_are_refused", WeightsOfColumns(), "is accepted"),
    Mutant("bad_batches_are_refused", BroadcastingColumns(), "is accepted"),
    Mutant("refusals_help", Curt(), "does not say what came"),
    Mutant("refusals_help", WithoutAFix(), "does not say how to mend it"),
]
