"""Verification of glyphs: do two images show the same letter, of an alphabet that was never seen in training?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from annotated_types import Ge, MinLen, MultipleOf
from batches import Batches, grouped, pairs, triplets
from glyph_data import ALPHABETS, FACES, Glyphs, glyphs
from pictures import draw_verification
from pydantic import Field, model_validator
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from losses import ConfigError
from losses.core.errors import Problem
from losses.core.inputs import EMBEDDINGS, LOGITS, PAIRS, TRIPLETS, Kind
from losses.core.parameters import Wording
from losses.diagnostics import all_pairs, nearest, retrieval, verification
from tasks.task import Metrics, Part, Task

Alphabets = Annotated[
    list[Literal[tuple(ALPHABETS)]], MinLen(1), Wording(f"a list of one or more of {', '.join(ALPHABETS)}")
]  # type: ignore[valid-type]  # made of data
Faces = Annotated[list[Literal[tuple(FACES)]], MinLen(1), Wording(f"a list of one or more of {', '.join(FACES)}")]  # type: ignore[valid-type]  # made of data
Even = Annotated[int, Ge(2), MultipleOf(2), Wording("an even number of at least 2")]

ARRANGED: Mapping[Kind, Callable[[Batches, int], Batches]] = {
    EMBEDDINGS: lambda labelled, per_class: labelled,
    LOGITS: lambda labelled, per_class: labelled,
    PAIRS: pairs,
    TRIPLETS: triplets,
}

QUERIES, NEIGHBOURS = 8, 9  # shown in the picture


class GlyphVerification(Task):
    """Train on the letters of some alphabets, verify on those of others.

    Validation is on the training alphabets in typefaces that are held out, by default every bold italic: training sees
    bold faces and italic ones, never both at once. Held-out letters would not do, because a classification head
    has no logit for a letter that it was not built for, and the loss curves of all losses should mean the same.
    """

    question = "Do two images show the same letter, of an alphabet that was never seen in training?"
    feeds = tuple(ARRANGED)
    better: ClassVar = {"AUC": "higher", "EER": "lower", "recall@1": "higher"}
    picture = "verification.png"

    name: Literal["glyphs"]
    train_on: Alphabets = Field(["latin", "greek", "cyrillic"])
    verify_on: Alphabets = Field(["armenian", "georgian", "hebrew"])
    validation_faces: Faces = Field([face for face in FACES if face.endswith(("BoldOblique", "BoldItalic", "BolIta"))])
    per_class: Even = 4

    @model_validator(mode="after")
    def unseen_is_unseen(self) -> Self:
        if both := set(self.train_on) & set(self.verify_on):
            raise ConfigError(Problem(("verify_on",), f"got {', '.join(sorted(both))}, which train_on holds too"))
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.unseen.images.shape[1:])

    @property
    def outputs(self) -> int:
        return len(self.parts["training"].letters)

    @cached_property
    def parts(self) -> dict[str, Glyphs]:
        known = glyphs().written_in(self.train_on)
        held_out = known.drawn_in(self.validation_faces)
        validation = known.only(held_out)
        paired = validation.labels.bincount()[validation.labels] > 1  # a letter in a single face makes no pair
        return {"training": known.only(~held_out), "validation": validation.only(paired)}

    @cached_property
    def unseen(self) -> Glyphs:
        return glyphs().written_in(self.verify_on)

    def batches(self, part: Part, kind: Kind, size: int) -> Batches:
        chosen = self.parts[part]
        return ARRANGED[kind](grouped(chosen.images, chosen.labels, size, self.per_class), self.per_class)

    def misfit(self, size: int) -> str | None:
        most = self.per_class * min(len(part.labels.unique()) for part in self.parts.values())
        if size % self.per_class or not 2 * self.per_class <= size <= most:
            wanted = f"a multiple of task.per_class={self.per_class} from {2 * self.per_class} to {most}"
            return f"got {size}, expected {wanted}"
        return None

    @property
    def pixels(self) -> Tensor:
        """What verification without a network compares."""
        return self.unseen.images.flatten(1)

    def metrics(self, network: nn.Module) -> Metrics:
        return compared(embedded(network, self.unseen.images), self.unseen.labels)

    def references(self) -> dict[str, Metrics]:
        return {"raw pixels": compared(self.pixels, self.unseen.labels)}

    def draw(self, network: nn.Module, path: Path) -> None:
        images, labels = self.unseen.images, self.unseen.labels
        embeddings = embedded(network, images)
        curves = {}
        for name, vectors in (("network", embeddings), ("raw pixels", self.pixels)):
            distances, same = all_pairs(vectors, labels, distance="cosine")
            wrongly, rightly, _ = roc_curve(same.numpy(), -distances.numpy())
            metrics = ", ".join(f"{metric} {value:.3f}" for metric, value in compared(vectors, labels).items())
            curves[name] = (wrongly, rightly, metrics)
        queries = torch.linspace(0, len(labels) - 1, QUERIES).long()
        neighbours = nearest(embeddings, NEIGHBOURS, distance="cosine")[queries]
        draw_verification(curves, images.squeeze(1), labels, queries, neighbours, path)


@torch.no_grad()
def embedded(network: nn.Module, images: Tensor) -> Tensor:
    return network.eval().embed(images)


def compared(embeddings: Tensor, labels: Tensor) -> Metrics:
    """Return how well cosine distance tells whether two embeddings, of all there are, have one label."""
    metrics = verification(*all_pairs(embeddings, labels, distance="cosine"))
    found = retrieval(embeddings, labels, distance="cosine", recall_at=[1])
    return {"AUC": metrics.auc, "EER": metrics.eer, "recall@1": found.recall[1]}
