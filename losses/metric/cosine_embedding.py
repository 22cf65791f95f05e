"""Cosine embedding loss: pairs of one class in one direction, pairs of two classes below a cosine."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    PAIRS,
    SCALE_INVARIANT,
    SYMMETRIC_IN_PAIRS,
    Cosine,
    EmbeddingLoss,
    Fits,
    LabelledBatch,
    Pairs,
    Reduction,
    Tiling,
    bounded,
    checked,
    register,
)
from losses.ops.dense.batch import Dense
from losses.ops.dense.contrastive import dense_contrastive
from losses.ops.indexed.lists import IndexLists, Listed, are_many, strips_of
from losses.ops.pairs.contrastive import costs_of_pairs, far_costs, near_costs, tiled_contrastive
from losses.ops.rowwise import RowCosts


def cosine_embedding(distances: Tensor, same: Tensor, *, margin: float = 0.0) -> Tensor:
    """Return the loss of every cosine distance, unreduced, given which pairs are of the same class; see
    :class:`CosineEmbeddingLoss`."""
    return torch.where(same, distances, 1 - margin - distances).relu()


@register(
    "cosine_embedding",
    inputs=(EMBEDDINGS, PAIRS),
    laws=(NON_NEGATIVE, SYMMETRIC_IN_PAIRS, SCALE_INVARIANT, bounded(2.0)),
    suits="verification and search by the cosine: is this the same? from pairs",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns a cosine with a threshold, which new classes have too",
    ),
    source="J. Bromley, I. Guyon, Y. LeCun, E. Säckinger, R. Shah, Signature Verification using a Siamese Time Delay "
    "Neural Network, 1993; with a margin: torch.nn.CosineEmbeddingLoss",
)
class CosineEmbeddingLoss(EmbeddingLoss):
    r"""What the cosine of a pair of one class falls short of 1, and that of two classes exceeds the margin by.

    .. math::
        \ell(c) = \begin{cases}
            1 - c               & \text{pairs of one class} \\
            \max(0,\ c - m)     & \text{pairs of two classes}
        \end{cases}

    :math:`c` is the cosine of the angle between a pair; that with a vector of zeros is 0. It is ``contrastive`` of the
    cosine distance with ``power=1`` and a margin of :math:`1 - m`.

    Args:
        margin: :math:`m`, from -1 to 1, cosine down to which pairs of different classes cost something.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one pair, each unordered pair of a batch once, in the
            order (0, 1), (0, 2), ..., (1, 2), ...

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``, or ``Pairs(first, second)``, each ``(N, D)``, with a target
        ``(N,)`` that is above 0 where the pair is of one class: bool, {0, 1} and {-1, 1} mean the same. ``indices=``
        takes the tuple of a pytorch-metric-learning miner (then an item is one of its pairs, positive pairs first),
        ``reference=(embeddings, labels)`` another set to compare with (then an item is one of N x M pairs). ``weight``
        is one per pair, or one per embedding of a labelled batch, whose pairs weigh the mean of their two ends (with a
        reference or indices, the weight of the anchor).

    Units:
        Margin and loss are cosines.

    Raises:
        ConfigError: ``margin`` is not between -1 and 1, or ``reduction`` is unknown.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> pairs = Pairs(tensor([[1.0, 0.0], [1.0, 0.0]]), tensor([[0.0, 2.0], [0.6, 0.8]]))  # cosines of 0 and 0.6
    >>> CosineEmbeddingLoss(margin=0.5, reduction="none")(pairs, tensor([1, 0]))  # 1 - 0, 0.6 - 0.5
    tensor([1.0000, 0.1000])
    """

    each_pair_once = True
    average = "all"

    @checked
    def __init__(self, *, margin: Cosine = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    @property
    def measure(self) -> str:
        return "cosine"

    @property
    def gap(self) -> float:
        return 1 - self.margin

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return cosine_embedding(*self.pairs(output, target), margin=self.margin)

    def denominators(self, items: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor | None:
        return None if self.average == "all" else (items != 0).to(items.dtype)  # of readings: which pairs are active

    def item_weights(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return self.pair_weights(weight, output)

    def dense(self, batch: LabelledBatch) -> Dense:
        return Dense(partial(dense_contrastive, **self._settings()))

    def tiling(self, batch: LabelledBatch) -> Tiling:
        return Tiling(partial(tiled_contrastive, **self._settings()), upper=not batch.has_reference)

    def index_sums(self, batch: LabelledBatch) -> IndexLists | None:
        anchor, positive, negative_anchor, negative = batch.pairs()
        if not are_many(len(anchor) + len(negative_anchor), batch.anchors, batch.others):
            return None
        near, far = partial(near_costs, margin=0.0, power=1), partial(far_costs, margin=self.gap, power=1)
        of_same = Listed(strips_of((anchor, positive)), near, self.average == "all")
        of_different = Listed(strips_of((negative_anchor, negative)), far, self.average == "all")
        return IndexLists([[of_same, of_different]])

    def row_costs(self, output: Pairs, target: Tensor) -> RowCosts:
        return costs_of_pairs(
            target, self.measure, margin=self.gap, positive_margin=0.0, power=1, counts_free=self.average == "all"
        )

    def _settings(self) -> dict[str, Any]:
        """Return what decides on the sums over a batch: those of ``contrastive`` on cosine distances."""
        return {"margin": self.gap, "positive_margin": 0.0, "power": 1, "average": self.average}
