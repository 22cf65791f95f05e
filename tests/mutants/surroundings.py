"""Broken losses that mind what goes on around a call, or change it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import losses
from losses.core.parameters import Reduction, checked
from tests.mutants.correct import Mutant, Square, Squares


def setting(change: Callable[[], object], name: str) -> losses.MSELoss:
    """Return a loss that changes something for the whole process."""

    def items(self: Any, prediction: Tensor, target: Tensor) -> Tensor:
        change()
        return Squares.items(self, prediction, target)

    return type(name, (Squares,), {"items": items})()


class AutocastOff(Squares):
    """Switches autocast off for itself, and for all that follows."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        torch.set_autocast_enabled("cpu", False)
        return super().forward(output, target, **options)


class NoGradWhereItRefuses(Squares):
    """Switches gradients off while it looks at a batch, for good where it refuses it."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        former = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        super().forward(output, target, **options)
        torch.set_grad_enabled(former)
        return super().forward(output, target, **options)


class SilentBackward(Squares):
    """Ignores warnings in its backward, and from then on everywhere."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        def slope(upstream: Tensor, saved: Tensor, kept: Tensor) -> Tensor:
            warnings.simplefilter("ignore")
            return 2 * upstream * saved

        return Square.apply(prediction - target, slope)


class NewMemory(Squares):
    """Reads memory that nobody wrote."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        padded = torch.empty(len(target) + 1, *target.shape[1:], dtype=target.dtype)
        padded[:-1] = target
        return super().items(prediction, target) + 0 * padded[-1]


class InTheDefaultDtype(Squares):
    """Adds up in the default dtype."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) + torch.zeros(target.shape)


class CountsInTheDefaultDtype(Squares):
    """Adds results to zeros of the default dtype, which takes no other."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        return torch.zeros(items.shape).index_add(0, torch.arange(len(items)), items)


class HooksPassedBy(Squares):
    """Is called without what a module does around a call."""

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        return self.forward(*inputs, **options)


class CallingItself(Squares):
    """Calls itself on both halves of a batch, with every hook."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        if options or not isinstance(output, Tensor) or len(output) < 8:
            return super().forward(output, target, **options)
        return (self(output[:5], target[:5]) + self(output[5:], target[5:])) / 2


class FirstDtypeForAll(Squares):
    """Keeps a constant in the dtype that it was first called with."""

    scale: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.eye(target.shape[-1], dtype=target.dtype)
        return super().items(prediction @ self.scale, target)


class UnloadableState(Squares):
    """Writes more into a checkpoint than it takes out of one."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}


class ConstantThatStaysBehind(Squares):
    """Keeps a constant as a plain attribute, which does not move with the module."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.scales = torch.ones(3)

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * self.scales


class ConstantOfTheClass(Squares):
    """Keeps a constant of all its instances, which moves with none of them."""

    scales = torch.ones(3)

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * self.scales


class ConstantOfTheFirstBatch(Squares):
    """Makes a constant where its first batch is."""

    scales: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.scales = torch.ones_like(target[0]) if self.scales is None else self.scales
        return super().items(prediction, target) * self.scales


MUTANTS = [
    Mutant("settings_stay", setting(lambda: torch.set_grad_enabled(True), "GradientsOn"), "grad mode changed"),
    Mutant("settings_stay", setting(lambda: torch.set_default_dtype(torch.float32), "DefaultDtype"), "default dtype"),
    Mutant("settings_stay", setting(lambda: warnings.simplefilter("ignore"), "NoWarnings"), "warning filters"),
    Mutant("settings_stay", setting(lambda: torch.set_num_threads(3), "MoreThreads"), "number of threads"),
    Mutant("settings_stay", setting(lambda: losses.checks("never"), "ChecksOff"), "checks of values"),
    Mutant("settings_stay", AutocastOff(), "autocast changed by a call under autocast"),
    Mutant("settings_stay", SilentBackward(), "warning filters changed by the backward"),
    Mutant("settings_stay", NoGradWhereItRefuses(), "grad mode changed by a batch that is refused"),
    Mutant("settings_do_not_matter", NewMemory(), "with unusual settings: .*nan"),
    Mutant("settings_do_not_matter", InTheDefaultDtype(), "the result is torch.float64"),
    Mutant("settings_do_not_matter", CountsInTheDefaultDtype(), "dtype|type"),
    Mutant("works_as_a_module", HooksPassedBy(), "through a hook"),
    Mutant("works_as_a_module", CallingItself(), "through a hook|a hook ran"),
    Mutant("works_as_a_module", FirstDtypeForAll(), "dtype"),
    Mutant("works_as_a_module", UnloadableState(), "_extra_state"),
    Mutant("moves_with_its_tensors", ConstantOfTheClass(), "scales stays behind"),
    Mutant("moves_with_its_tensors", ConstantThatStaysBehind(), "scales stays behind"),
    Mutant("moves_with_its_tensors", ConstantOfTheFirstBatch(), "scales stays behind"),
]
