"""Spam: is a mail unwanted, by its words?"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from pictures import draw_confusion
from spam_data import mails
from torch import nn
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_average_precision,
    binary_confusion_matrix,
    binary_recall,
    binary_specificity,
)

from losses.core.inputs import BINARY, SCORES
from tasks.task import Metrics, Samples, SplitTask, answers


class Spam(SplitTask):
    """Mails of the SpamAssassin corpus, of which it is known whether they have a word of each of 1024 places."""

    question = "Is a mail spam, by its words?"
    feeds = (BINARY, SCORES)
    better: ClassVar = {
        "accuracy": "higher",
        "average precision": "higher",
        "spam found": "higher",
        "mail lost": "lower",
    }
    picture = "confusion.png"

    name: Literal["spam"]

    @cached_property
    def parts(self) -> dict[str, Samples]:
        words, spam = mails()
        rows_of = self.parted(len(spam), spam.numpy())
        return {part: Samples(words[rows], spam[rows]) for part, rows in rows_of.items()}

    def metrics(self, network: nn.Module) -> Metrics:
        words, spam = self.parts["testing"]
        # a logit is positive for "yes" under every loss; a sigmoid only brings it to the scale that torchmetrics wants
        probs, spam = answers(network, words).sigmoid(), spam.int()
        return {
            "accuracy": binary_accuracy(probs, spam).item(),
            "average precision": binary_average_precision(probs, spam).item(),
            "spam found": binary_recall(probs, spam).item(),
            "mail lost": 1 - binary_specificity(probs, spam).item(),
        }

    def draw(self, network: nn.Module, path: Path) -> None:
        words, spam = self.parts["testing"]
        counts = binary_confusion_matrix(answers(network, words).sigmoid(), spam.int())
        draw_confusion(counts, ["mail", "spam"], "Mails that were not trained on", path)
