"""Ordered classes: a logit for each threshold between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.inputs.kind import INTEGERS, Asked, Batch, Form, filled, normal, retyped
from losses.core.inputs.predictions import ClassIndices, require_classes


class OrderedClasses(ClassIndices):
    """One logit for each question "is the class above k?", at every position, against the index of the class."""

    name, returns = "ORDERED_CLASSES", "thresholds"
    output_text = "logits (N, K - 1, ...), of the questions whether the class is above 0, 1, ..."
    target_text = "indices (N, ...) of K ordered classes"
    asks: ClassVar[Mapping[str, Asked]] = {}
    of_one_hot = "if it says of every threshold whether the class is above, pass target.sum(1)"

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        check.require_finite(logits=output)
        check.warn_of_sigmoid(output)
        require_classes(target, output.shape[1] + 1, None)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        logits, labels = batch
        count = logits.shape[1]
        above = torch.where(labels.unsqueeze(1) > torch.arange(count), 1e4, -1e4).double()
        return {
            "equal_points": [Batch(torch.zeros_like(logits), labels)],
            "extreme_values": [Batch(part, labels) for part in (filled(logits, 1e4), above, -above)],
            "one_class": [Batch(logits, torch.full_like(labels, each)) for each in (0, count)],
            "every_label_different": [Batch(logits[: count + 1], torch.arange(count + 1))],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 4), torch.randint(5, (size,), generator=generator))

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"indices": retyped(batch, *INTEGERS)}

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        return []
