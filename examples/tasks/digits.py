"""Handwritten digits: which of ten is it?"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy
import torch
from batches import Batch, Batches
from pictures import draw_confusion
from settings import Fraction
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix, multiclass_f1_score

from losses.core.inputs import CLASS_INDICES, LOGITS, PARTS, Kind
from tasks.task import Metrics, Part, Samples, SplitTask, answers


class Digits(SplitTask):
    """Classification of the 1797 images of 8 x 8 pixels that ship with scikit-learn.

    A fraction of the labels, in training and in validation, may be those of another digit.
    """

    question = "Which of ten digits does an image show?"
    feeds = (LOGITS, CLASS_INDICES, PARTS)
    better: ClassVar = {"accuracy": "higher", "F1": "higher"}
    picture = "confusion.png"

    name: Literal["digits"]
    label_noise: Fraction = 0.0

    @property
    def outputs(self) -> int:
        return 10

    @cached_property
    def parts(self) -> dict[str, Samples]:
        digits = load_digits()
        images, labels = torch.from_numpy(digits.images).float().unsqueeze(1) / 16, torch.from_numpy(digits.target)
        rows_of = self.parted(len(labels), digits.target)
        seen = {part: labels if part == "testing" else self.mistaken(labels) for part in rows_of}
        return {part: Samples(images[rows], seen[part][rows]) for part, rows in rows_of.items()}

    def mistaken(self, labels: Tensor) -> Tensor:
        """Return labels of which a fraction, chosen at random, are those of another digit, each as often."""
        chance = numpy.random.default_rng(self.split_seed)
        wrong = chance.random(len(labels)) < self.label_noise
        others = chance.integers(1, self.outputs, len(labels))
        return (labels + torch.from_numpy(wrong * others)) % self.outputs

    def batches(self, part: Part, kind: Kind, size: int) -> Batches:
        batches = super().batches(part, kind, size)
        return named(batches) if kind is PARTS else batches

    def metrics(self, network: nn.Module) -> Metrics:
        images, labels = self.parts["testing"]
        logits = logits_of(network, images)
        return {
            "accuracy": multiclass_accuracy(logits, labels, self.outputs, average="micro").item(),
            "F1": multiclass_f1_score(logits, labels, self.outputs, average="macro").item(),
        }

    def draw(self, network: nn.Module, path: Path) -> None:
        images, labels = self.parts["testing"]
        counts: Tensor = multiclass_confusion_matrix(logits_of(network, images), labels, self.outputs)
        draw_confusion(counts, [str(digit) for digit in range(self.outputs)], "Digits that were not trained on", path)


def named(batches: Batches) -> Batches:
    """Return batches whose targets are what each head of a network is for, by its name."""

    def draw(seed: int, step: int) -> Batch:
        (images,), labels = batches(seed, step)
        return Batch((images,), {"label": labels, "image": images})

    return draw


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of a network, which may have other heads too."""
    output = answers(network, images)
    return output["logits"] if isinstance(output, dict) else output
