"""Broken losses whose parameters have a usual name and another meaning, or whose lists stay behind."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from losses.core.parameters import NonNegativeVector, Reduction, Vector, checked
from losses.extend import ElementwiseLoss
from tests.mutants.correct import Entropies, Mutant


class NegativeIsIgnored(Entropies):
    """Ignores whatever is negative, and nothing else."""

    def _of_torch(self, logits: Tensor, target: Tensor) -> tuple[losses.CrossEntropyLoss, Tensor]:
        plain = losses.CrossEntropyLoss(label_smoothing=self.label_smoothing, class_weight=self.class_weight)
        return plain, target.masked_fill(target < 0, -100).clamp(max=logits.shape[1] - 1)

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        plain, known = self._of_torch(logits, target)
        return plain.items(logits, known)

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        plain, known = self._of_torch(logits, target)
        return plain.denominators(items, logits, known)


class OnlyMinusHundred(losses.CrossEntropyLoss):
    """Has torch's default in its fast path, whatever it was given."""

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        mean = F.cross_entropy(logits, target.where(target != self.ignore_index, -100), reduction="sum")
        return mean / target.numel()


class IgnoredAreSmoothed(losses.CrossEntropyLoss):
    """Smooths the targets of ignored positions."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        items = super().items(logits, target)
        ignored = target == self.ignore_index if not target.dtype.is_floating_point else torch.zeros_like(items).bool()
        return items + self.label_smoothing * ignored * -logits.log_softmax(1).mean(1)

    fast_mean, fast_weighted_mean = losses.Loss.fast_mean, losses.Loss.fast_weighted_mean
    fast_total = losses.Loss.fast_total


class IgnoredCountInZLoss(losses.CrossEntropyLoss):
    """Penalises the logits of ignored positions."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        plain = losses.CrossEntropyLoss(
            label_smoothing=self.label_smoothing, class_weight=self.class_weight, ignore_index=self.ignore_index
        )
        return plain.items(logits, target) + self.z_loss * logits.logsumexp(1).square()

    fast_mean, fast_weighted_mean = losses.Loss.fast_mean, losses.Loss.fast_weighted_mean
    fast_total = losses.Loss.fast_total


class WeightsTwice(losses.CrossEntropyLoss):
    """Applies the weight of a class to its item twice."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        items = super().items(logits, target)
        weights = self._weight_of_classes(logits)
        return items if weights is None or target.dtype.is_floating_point else items * weights[target.clamp(min=0)]


class WeightOfNegatives(losses.BinaryCrossEntropyLoss):
    """Weighs negative targets with what positive ones should weigh."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().items(-logits, 1 - target)

    fused = ElementwiseLoss.fused


class SmoothingTwice(losses.BinaryCrossEntropyLoss):
    """Smooths what was smoothed already."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        s = self.label_smoothing
        return super().items(logits, target * (1 - s) + s / 2)

    fused = ElementwiseLoss.fused


class SmoothingOverTheOthers(losses.CrossEntropyLoss):
    """Spares the right class when it gives probability to all."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        classes = logits.shape[1]
        smoothing = min(1.0, self.label_smoothing * classes / (classes - 1))
        harder = losses.CrossEntropyLoss(label_smoothing=smoothing, class_weight=self.class_weight)
        return harder.items(logits, target)

    fast_mean, fast_weighted_mean = losses.Loss.fast_mean, losses.Loss.fast_weighted_mean
    fast_total = losses.Loss.fast_total


class LeftBehind(losses.CrossEntropyLoss):
    """Keeps the weights of classes where no device finds them."""

    @checked
    def __init__(self, *, class_weight: NonNegativeVector | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(class_weight=class_weight, reduction=reduction)
        self._kept = None if class_weight is None else torch.as_tensor(class_weight, dtype=torch.float64)

    def _weight_of_classes(self, logits: Tensor) -> Tensor | None:
        return None if self._kept is None else self._kept.to(logits.dtype)


class MadeAnew(losses.WassersteinLoss):
    """Makes its support from a list in every call, on the CPU."""

    def _histogram(self, values: Tensor) -> Any:
        histogram = super()._histogram(values)
        if self.positions is None:
            return histogram
        numbers = [1.25, 0.5, 2.0, 0.75, 1.5][: values.shape[-1]]
        return histogram._replace(points=torch.tensor(numbers, dtype=values.dtype).expand(values.shape))


class InTheDtypeOfTheList(losses.CrossEntropyLoss):
    """Computes in the dtype of its weights, be it half."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.class_weight is None:
            return super().items(logits, target)
        return super().items(logits.to(self.class_weight.dtype), target).to(logits.dtype)

    fast_mean, fast_weighted_mean = losses.Loss.fast_mean, losses.Loss.fast_weighted_mean
    fast_total = losses.Loss.fast_total


class SomebodyElses(losses.CrossEntropyLoss):
    """Keeps the very tensor that it was given."""

    def __init__(self, *, class_weight: Vector | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(class_weight=class_weight, reduction=reduction)
        if isinstance(class_weight, Tensor):
            self.class_weight = class_weight


MUTANTS = [
    Mutant("any_index_can_be_ignored", NegativeIsIgnored(), "ignore_index=255"),
    Mutant("any_index_can_be_ignored", OnlyMinusHundred(), "ignore_index=-1, mean"),
    Mutant("any_index_can_be_ignored", IgnoredAreSmoothed(), "label_smoothing=.*, ignore_index=-1"),
    Mutant("any_index_can_be_ignored", IgnoredCountInZLoss(), "z_loss=.*, ignore_index=-1"),
    Mutant("usual_parameters_mean_the_usual", WeightsTwice(), "class_weight="),
    Mutant("usual_parameters_mean_the_usual", WeightOfNegatives(), "positive_weight=2.5"),
    Mutant("usual_parameters_mean_the_usual", SmoothingTwice(), "label_smoothing=0.3125, none"),
    Mutant("usual_parameters_mean_the_usual", SmoothingOverTheOthers(), "label_smoothing=0.3125, none"),
    Mutant("lists_move_with_the_loss", LeftBehind(), "leaves _kept behind"),
    Mutant("lists_move_with_the_loss", MadeAnew(form="probs"), "on another device"),
    Mutant("lists_move_with_the_loss", InTheDtypeOfTheList(), "class_weight, moved to"),
    Mutant("lists_move_with_the_loss", SomebodyElses(), "when the tensor that was given changed"),
]
