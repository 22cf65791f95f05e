"""How a segmentation overlaps a mask: true and false positives and false negatives, expected from probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Errors(NamedTuple):
    """What the loss of an overlap is made of beside the true positives."""

    false_positive: float
    """Weight of a false positive."""
    false_negative: float
    """Weight of a false negative."""
    smooth: float = 0.0
    """How many true positives there are already."""


class Overlap(NamedTuple):
    """What is right and wrong with a mask that is predicted, added up over its places: of each sample ``(N,)``, or of
    each sample and class ``(N, C)``."""

    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor

    def loss(self, errors: Errors) -> Tensor:
        """Return the weighted part of what is wrong in all that is predicted or there; nothing of nothing is 0.

        It is 1 less the index of the overlap, without a difference in which digits would be lost.
        """
        wrong = errors.false_positive * self.false_positives + errors.false_negative * self.false_negatives
        whole = self.true_positives + wrong
        whole = whole + errors.smooth if errors.smooth else whole
        return wrong / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def overlap(logits: Tensor, target: Tensor) -> Overlap:
    """Return the overlap of each sample, from logits of yes ``(N, ...)`` and masks of 0 and 1."""
    logits, target = (part.unsqueeze(-1).flatten(1) for part in (logits, target))
    probs = logits.sigmoid()
    hits = probs * target
    misses = (-logits).sigmoid() * target  # not target - hits, which loses digits of what is almost certain
    return Overlap(hits.sum(1), (probs - hits).sum(1), misses.sum(1))


def overlap_of_classes(logits: Tensor, target: Tensor) -> Overlap:
    """Return the overlap of each sample and class, from logits ``(N, C, ...)`` and class indices ``(N, ...)``."""
    logits, labels = logits.unsqueeze(-1).flatten(2), target.unsqueeze(-1).flatten(1)
    index = labels.unsqueeze(1)
    probs = logits.softmax(1)
    right, wrong = probs.gather(1, index).squeeze(1), probs.scatter(1, index, 0)
    nothing = probs.new_zeros(probs.shape[:2])
    missed = wrong.sum(1)  # what is missed of a class is what the others have there
    return Overlap(nothing.scatter_add(1, labels, right), wrong.sum(2), nothing.scatter_add(1, labels, missed))
