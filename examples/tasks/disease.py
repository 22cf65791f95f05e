"""Disease prediction: is a tumour malignant, by 30 measurements of its cell nuclei?"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pictures import draw_confusion
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torchmetrics.functional.classification import binary_accuracy, binary_auroc, binary_confusion_matrix, binary_recall

from losses.core.inputs import BINARY, SCORES
from tasks.task import Metrics, Samples, SplitTask, answers


class Disease(SplitTask):
    """The Wisconsin breast cancer data that ship with scikit-learn: 569 tumours, 212 of them malignant."""

    question = "Is a tumour malignant, by 30 measurements of its cell nuclei?"
    feeds = (BINARY, SCORES)
    better: ClassVar = {"accuracy": "higher", "sensitivity": "higher", "AUC": "higher"}
    picture = "confusion.png"

    name: Literal["disease"]

    @cached_property
    def parts(self) -> dict[str, Samples]:
        measured, benign = load_breast_cancer(return_X_y=True)
        rows_of = self.parted(len(benign), benign)
        scaler = StandardScaler().fit(measured[rows_of["training"]])
        inputs, malignant = torch.from_numpy(scaler.transform(measured)).float(), torch.from_numpy(1.0 - benign).float()
        return {part: Samples(inputs[rows], malignant[rows]) for part, rows in rows_of.items()}

    def metrics(self, network: nn.Module) -> Metrics:
        inputs, malignant = self.parts["testing"]
        # a logit is positive for "yes" under every loss; a sigmoid only brings it to the scale that torchmetrics wants
        probs, malignant = answers(network, inputs).sigmoid(), malignant.int()
        return {
            "accuracy": binary_accuracy(probs, malignant).item(),
            "sensitivity": binary_recall(probs, malignant).item(),
            "AUC": binary_auroc(probs, malignant).item(),
        }

    def draw(self, network: nn.Module, path: Path) -> None:
        inputs, malignant = self.parts["testing"]
        counts = binary_confusion_matrix(answers(network, inputs).sigmoid(), malignant.int())
        draw_confusion(counts, ["benign", "malignant"], "Tumours that were not trained on", path)
