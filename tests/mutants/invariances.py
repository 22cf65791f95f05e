"""Broken losses that mind what must not matter, or do what must not happen."""

import torch
from torch import Tensor

from tests.mutants.correct import Mutant, Square, Squares


class RampOverTheBatch(Squares):
    """Weighs samples by their position."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * torch.arange(len(target)).unsqueeze(1)


class GradientInMemoryOrder(Squares):
    """Has a backward that reads memory in the order of contiguous tensors."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        contiguous = torch.empty(target.shape).stride()
        return Square.apply(
            prediction - target, lambda upstream, saved, kept: 2 * upstream * saved.as_strided(saved.shape, contiguous)
        )


class ViewOfStrides(Squares):
    """Takes a view where only a reshape is always possible."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction.view(-1), target.view(-1))


class TargetOverwritten(Squares):
    """Spares an allocation at the caller's cost."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return target.sub_(prediction.detach()).square() + 0 * prediction


class OutputClamped(Squares):
    """Clamps the output in place, where autograd does not see it."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction.detach().clamp_(-1, 1)
        return super().items(prediction, target)


class AlwaysSingle(Squares):
    """Turns float64 into float32 without a word."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction.float(), target.float())


class Counting(Squares):
    """Grows with every call."""

    calls = 0

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return super().items(prediction, target) * self.calls


class RunningScale(Squares):
    """Divides by a running mean of its own values."""

    scale: Tensor | float = 1.0

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        self.scale = 0.9 * self.scale + 0.1 * items.detach().mean()
        return items / self.scale


class ScaledByTheFirst(Squares):
    """Measures errors by the spread of the first batch it ever saw, and a checkpoint does not hold it."""

    scale: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = target.std()
        return super().items(prediction, target) / self.scale


class Reseeding(Squares):
    """Seeds the generator that dropout and shuffling draw from."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().items(prediction, target)


class ReadingAValue(Squares):
    """Asks for a number with .item()."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * max(1.0, target.max().item())


class BranchingOnAValue(Squares):
    """Decides by a tensor, which is a hidden .item()."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) if target.any() else (prediction * 0)


class IndexingByAMask(Squares):
    """Picks items by a mask, so that their number must be known."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target)[target > 0]


class LookingForNonzero(Squares):
    """Looks for the places of items, so that their number must be known."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target)[torch.nonzero(target > 0, as_tuple=True)]


class ListingValues(Squares):
    """Brings the whole target to the host as a list."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, torch.tensor(target.tolist(), dtype=target.dtype).reshape(target.shape))


MUTANTS = [
    Mutant("order_of_the_batch", RampOverTheBatch(), "permuted"),
    Mutant("memory_layout", GradientInMemoryOrder(), "gradient"),
    Mutant("memory_layout", ViewOfStrides(), "view size is not compatible"),
    Mutant("inputs_stay_untouched", TargetOverwritten(), "an input changed"),
    Mutant("inputs_stay_untouched", OutputClamped(), "an input changed"),
    Mutant("dtype_and_device_stay", AlwaysSingle(), "torch.float32"),
    Mutant("no_state_between_calls", Counting(), "called again"),
    Mutant("no_state_between_calls", RunningScale(), "called again"),
    Mutant("no_state_between_calls", ScaledByTheFirst(), "called"),
    Mutant("no_state_between_calls", Reseeding(), "generator"),
    Mutant("no_synchronisation", ReadingAValue(), "_local_scalar_dense"),
    Mutant("no_synchronisation", BranchingOnAValue(), "_local_scalar_dense|is_nonzero"),
    Mutant("no_synchronisation", IndexingByAMask(), "index"),
    Mutant("no_synchronisation", LookingForNonzero(), "nonzero"),
    Mutant("no_synchronisation", ListingValues(), "reads values"),
]
