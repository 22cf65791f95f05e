"""Kinds of input of segmentation: all that a sample's mask holds makes one item, or one for each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import Batch, Form, filled, normal, retyped, uniform, yes_and_no
from losses.core.inputs.predictions import ClassIndices, Scores
from losses.core.reduction import hides_nothing, require_weight_fits


class Masks(Scores):
    """One logit for each place of a mask that says yes or no; a sample is an item."""

    name, returns = "MASKS", "logit"
    output_text, target_text = "logits (N, ...)", "masks of 0 and 1 of the same shape; bool and integers count"

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        output, target = super().accept(loss, output, target)
        if output.ndim == 0:
            raise InputError(
                f"logits must have shape (N, ...), got {check.shown(output)}; a single sample is logits.unsqueeze(0)"
            )
        return output, target

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        super().inspect(loss, output, target)
        require_mask(target)
        check.warn_of_sigmoid(output)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 6), (uniform(generator, size, 6) > 0.5).double())

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"yes and no": yes_and_no(batch)}


class ClassMasks(ClassIndices):
    """One logit for each class at every place of a mask that says which class it is; an item is a class of a sample."""

    name, returns = "CLASS_MASKS", "logits"
    target_text = "masks of class indices (N, ...)"

    def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        require_weight_fits(weight, output.shape[:2])
        if hides_nothing(weight):
            return Batch(output, target)
        absent = weight == 0
        if absent.ndim > 1:  # the logits of a class count for the others too
            absent = absent.all(1)
        return Batch(*(part.masked_fill(absent.reshape(-1, *[1] * (part.ndim - 1)), 0) for part in (output, target)))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        logits, labels = batch
        right = torch.nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).bool()
        return {
            "equal_points": [Batch(torch.zeros_like(logits), labels)],
            "extreme_values": [
                Batch(part, labels)
                for part in (filled(logits, 1e4), torch.where(right, 1e4, -1e4), torch.where(right, -1e4, 1e4))
            ],
            "infinite_logits": [Batch(torch.where(right, logits, -torch.inf), labels)],
            "one_class": [Batch(logits, torch.zeros_like(labels))],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3, 6), torch.randint(3, (size, 6), generator=generator))

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        plane = Batch(*(part.unflatten(-1, (2, 3)) for part in batch))
        return {"places": [Form(batch), Form(plane), Form(Batch(*(part.unsqueeze(-1) for part in batch)))]}

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"indices": retyped(batch, torch.int32, torch.int8, torch.uint8)}

    def close_targets(self, loss: Any, batch: Any) -> list[Batch]:
        return []


def require_mask(target: Tensor) -> None:
    """Raise unless a target holds nothing but 0 and 1."""
    wrong = (target != 0) & (target != 1)
    if bool(wrong.any()):
        raise InputError(
            f"target must be a mask of 0 and 1, got {target[wrong][0].item():g} in {check.shown(target)}; of "
            "probabilities pass (target > 0.5), of 0 and 255 (target > 0), and for classes choose a multi-class form"
        )
