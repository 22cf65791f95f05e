"""Broken losses that keep something from a call, or mix it up with another."""

import itertools
import random
from collections import deque
from typing import Any, ClassVar

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.parameters import Reduction, checked
from tests.mutants.correct import Mutant, Square, Squares
from tests.mutants.invariances import Counting, Reseeding, RunningScale
from tests.mutants.persistence import HoldingItsGraph


class DroppingOut(Squares):
    """Drops half of the items while it is in training."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.dropout(super().items(prediction, target), 0.5, self.training)


class SmoothedInTraining(Squares):
    """Moves targets towards their mean, and not where it is evaluated."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target.lerp(target.mean(0), 0.1) if self.training else target)


class StillInEvaluation(Squares):
    """Has no gradient where it is evaluated."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction if self.training else prediction.detach() + 0 * prediction, target)


class FirstCallForAll(Squares):
    """Makes a constant in its first call, of whatever kind tensors are there."""

    ones: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.ones is None or self.ones.shape != target.shape:
            self.ones = torch.ones_like(target)
        return super().items(prediction, target) * self.ones


class AlwaysWithAGraph(Squares):
    """Builds a graph where the caller wants none."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        with torch.enable_grad():
            return super().forward(output, target, **options)


class HookedOutput(Squares):
    """Needs an output that requires grad."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction.register_hook(lambda gradient: gradient)
        return super().items(prediction, target)


class SharedResidual(Squares):
    """Has a backward that reads the residual of the last call."""

    residual: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.residual = (prediction - target).detach()
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * self.residual)


class StackOfResiduals(Squares):
    """Takes for granted that the last call is differentiated first."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.__dict__.setdefault("residuals", []).append((prediction - target).detach())
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * self.residuals.pop())


class ReusedBuffer(Squares):
    """Saves an allocation: every call of one size returns the same memory."""

    buffers: ClassVar[dict[Any, Tensor]] = {}

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        value = super().forward(output, target, **options)
        buffer = self.buffers.setdefault(value.dtype, torch.zeros((), dtype=value.dtype))
        buffer.copy_(value.detach())
        value.data = buffer
        return value


class ReusedGradient(Squares):
    """Has a backward that returns the same memory every time."""

    gradients: ClassVar[dict[Any, Tensor]] = {}

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        gradient = self.gradients.setdefault((target.shape, target.dtype), torch.empty_like(target))
        return Square.apply(
            prediction - target, lambda upstream, saved, kept: torch.mul(2 * upstream, saved, out=gradient)
        )


class ThroughAnAttribute(Squares):
    """Hands the target from one method to the next through itself, as no two threads can."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.target = target
        scaled = prediction.mul(1)
        return (scaled - self.target).square()


class KnownByItsMemory(Squares):
    """Remembers the value of a target by where it lies."""

    values: ClassVar[dict[int, Tensor]] = {}

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        largest = self.values.setdefault(target.data_ptr(), target.detach().abs().amax())
        return super().items(prediction, target) * largest


class DrawingNumbers(Squares):
    """Draws noise that is too small to see."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) + 0 * torch.rand(())


class DrawingInBackward(Squares):
    """Draws noise in its backward."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(
            prediction - target, lambda upstream, saved, kept: 2 * upstream * saved + 0 * torch.rand(saved.shape)
        )


class ShufflingInPython(Squares):
    """Shuffles with the generator of Python."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        order = list(range(len(target)))
        random.shuffle(order)
        return super().items(prediction, target)


class SeedingNumPy(Squares):
    """Seeds the generator of NumPy."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        numpy.random.seed(0)
        return super().items(prediction, target)


class NoiseThatLeavesNoTrace(Squares):
    """Draws noise and puts the generator back."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.random.fork_rng():
            return super().items(prediction, target) + 0.1 * torch.rand(target.shape)


KEPT: deque[Tensor] = deque(maxlen=1)


class KeptElsewhere(Squares):
    """Keeps its last target in a place of the module that it is written in."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        KEPT.append(target.detach())
        return super().items(prediction, target)


class FirstResultKept(Squares):
    """Keeps the first result that it ever had, with all its graph."""

    first: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        self.first = items if self.first is None else self.first
        return items


class HistoryOfValues(Squares):
    """Makes a list of its values, which never ends."""

    history: ClassVar[list[Tensor]] = []

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        self.history.append(items.detach().sum())
        return items


class CountingCalls(Squares):
    """Counts its calls in a buffer."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("calls", torch.zeros(()))

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return super().items(prediction, target)


class CountingInAnIterator(Squares):
    """Counts its calls with an iterator."""

    steps = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.steps = itertools.count() if self.steps is None else self.steps
        next(self.steps)
        return super().items(prediction, target)


STEPS = 0


class CountingElsewhere(Squares):
    """Counts its calls in a number of the module that it is written in."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        global STEPS
        STEPS += 1
        return super().items(prediction, target)


class OwnGenerator(Squares):
    """Draws from a generator of its own."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.generator = random.Random(0)

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.generator.random()
        return super().items(prediction, target)


class DifferentiatingItself(Squares):
    """Calls backward() itself, and leaves gradients in the caller's network."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        if items.requires_grad:
            items.sum().backward(retain_graph=True)
        return items


MUTANTS = [
    Mutant("modes_agree", DroppingOut(), r"value, (eval|train)\(\)"),
    Mutant("modes_agree", SmoothedInTraining(), r"value, eval\(\)"),
    Mutant("modes_agree", StillInEvaluation(), r"gradient, eval\(\)"),
    Mutant("modes_agree", FirstCallForAll(), "Inference tensors cannot be saved"),
    Mutant("modes_agree", AlwaysWithAGraph(), "has a graph under no_grad"),
    Mutant("modes_agree", HookedOutput(), "doesn't require gradient"),
    Mutant("calls_do_not_mix", SharedResidual(), "gradient, differentiated after other calls"),
    Mutant("calls_do_not_mix", StackOfResiduals(), "gradient, differentiated after other calls"),
    Mutant("calls_do_not_mix", ReusedBuffer(), "value, differentiated after other calls"),
    Mutant("calls_do_not_mix", ReusedGradient(), "gradient, differentiated after other calls"),
    Mutant("calls_do_not_mix", ThroughAnAttribute(), "in the middle|must match the size"),
    Mutant("calls_do_not_mix", KnownByItsMemory(), "in the memory of another"),
    Mutant("random_numbers_stay", Reseeding(), "generator of torch"),
    Mutant("random_numbers_stay", DrawingNumbers(), "generator of torch"),
    Mutant("random_numbers_stay", DrawingInBackward(), "generator of torch"),
    Mutant("random_numbers_stay", ShufflingInPython(), "generator of Python"),
    Mutant("random_numbers_stay", SeedingNumPy(), "generator of NumPy"),
    Mutant("random_numbers_stay", NoiseThatLeavesNoTrace(), "generators in another state"),
    Mutant("nothing_is_kept", HoldingItsGraph(), "the graph is still alive"),
    Mutant("nothing_is_kept", FirstResultKept(), "the graph is still alive"),
    Mutant("nothing_is_kept", KeptElsewhere(), "the target is still alive"),
    Mutant("nothing_is_kept", HistoryOfValues(), "history.* changed"),
    Mutant("nothing_is_kept", CountingCalls(), "calls changed"),
    Mutant("nothing_is_kept", Counting(), "calls changed"),
    Mutant("nothing_is_kept", CountingInAnIterator(), "steps changed"),
    Mutant("nothing_is_kept", CountingElsewhere(), "STEPS changed"),
    Mutant("nothing_is_kept", OwnGenerator(), "generator changed"),
    Mutant("nothing_is_kept", RunningScale(), "graph is still alive|scale changed"),
    Mutant("nothing_is_kept", DifferentiatingItself(), "accumulated gradients itself"),
]
