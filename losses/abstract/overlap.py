"""Losses of masks with one item per sample, or per sample and class: what is wrong in what is predicted or there."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from losses.core.checks import require_same_shape
from losses.core.inputs import CLASS_MASKS, MASKS, Kind
from losses.core.loss import Loss
from losses.core.parameters import ClassForm
from losses.core.reduction import Total
from losses.ops.overlap.definitions import Errors, overlap, overlap_of_classes
from losses.ops.overlap.sums import mean_of_overlaps, total_of_overlaps


def overlap_loss(logits: Tensor, target: Tensor, errors: Errors, form: ClassForm) -> Tensor:
    """Return the loss of every sample, or sample and class, unreduced."""
    if form == "multiclass":
        return overlap_of_classes(logits, target).loss(errors)
    require_same_shape(logits=logits, target=target)
    return overlap(logits, target).loss(errors)


class OverlapLoss(Loss):
    """A loss of the overlap of a predicted and a true mask, which says what its errors weigh, :meth:`errors`."""

    form: ClassForm
    """One mask, or one for each of several classes: it decides on the kind of input."""

    @abstractmethod
    def errors(self) -> Errors:
        """Return what false positives and false negatives weigh beside true positives."""

    @property
    def inputs(self) -> tuple[Kind, ...]:
        return (MASKS,) if self.form == "binary" else (CLASS_MASKS,)

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return overlap_loss(logits, target, self.errors(), self.form)

    def fast_total(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if self.form == "multiclass":
            return None
        return total_of_overlaps(self.errors(), self.items, logits, target, weight)

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        return None if self.form == "multiclass" else mean_of_overlaps(self.errors(), self.items, logits, target)
