"""Contrastive loss: pairs of one class together, pairs of two classes a margin apart."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    PAIRS,
    SYMMETRIC_IN_PAIRS,
    Distance,
    EmbeddingLoss,
    Fits,
    LabelledBatch,
    ListedPairs,
    NonNegative,
    Pairs,
    Positive,
    Reduction,
    Tiling,
    Total,
    checked,
    register,
    total_of,
)
from losses.ops.dense.arrays import distances
from losses.ops.dense.batch import Dense
from losses.ops.dense.contrastive import dense_contrastive
from losses.ops.eager import may_read
from losses.ops.indexed.lists import IndexLists, Listed, are_many, strips_of
from losses.ops.pairs.contrastive import (
    costs_of_pairs,
    far_costs,
    near_costs,
    tiled_contrastive,
    tiled_contrastive_between,
)
from losses.ops.rowwise import RowCosts
from losses.ops.tiles.sizes import sizes


def contrastive(
    distances: Tensor,
    same: Tensor,
    *,
    margin: float = 1.0,
    positive_margin: float = 0.0,
    power: Literal[1, 2] = 2,
) -> Tensor:
    """Return the loss of every distance, unreduced, given which pairs are of the same class; see
    :class:`ContrastiveLoss`."""
    excess = torch.where(same, distances - positive_margin, margin - distances).relu()
    return excess if power == 1 else excess.square() / 2


@register(
    "contrastive",
    inputs=(EMBEDDINGS, PAIRS),
    laws=(NON_NEGATIVE, SYMMETRIC_IN_PAIRS),
    suits="verification: is this the same? from pairs, with a threshold on the distance that means something",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns a distance with a threshold, which new classes have too",
    ),
    source="R. Hadsell, S. Chopra, Y. LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006, "
    "doi:10.1109/CVPR.2006.100",
)
class ContrastiveLoss(EmbeddingLoss):
    r"""Distance of what belongs together, and how far below the margin the rest comes.

    .. math::
        \ell(d) = \begin{cases}
            \tfrac1p \max(0,\ d - m_+)^p    & \text{pairs of one class} \\
            \tfrac1p \max(0,\ m - d)^p      & \text{pairs of two classes}
        \end{cases}

    :math:`d` is the distance of a pair. With ``power=1`` and ``average="balanced"`` this is the value of
    ``ContrastiveLoss`` in pytorch-metric-learning 2.9.

    Args:
        margin: :math:`m`, distance at which pairs of different classes cost nothing any more.
        positive_margin: :math:`m_+`, distance up to which pairs of one class cost nothing.
        power: :math:`p`, 1 or 2.
        distance: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"`` (1 - cosine).
        average: the mean is over ``"all"`` pairs, over ``"active"`` ones that still cost something, or ``"balanced"``:
            the mean over active pairs of one class plus the mean over active pairs of different classes.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one pair, each unordered pair of a batch once, in the
            order (0, 1), (0, 2), ..., (1, 2), ...

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``, or ``Pairs(first, second)``, each ``(N, D)``, with a target
        ``(N,)`` that is above 0 where the pair is of one class. ``indices=`` takes the tuple of a
        pytorch-metric-learning miner (then an item is one of its pairs, positive pairs first), ``reference=(embeddings,
        labels)`` another set to compare with (then an item is one of N x M pairs). ``weight`` is one per pair, or one
        per embedding of a labelled batch, whose pairs weigh the mean of their two ends (with a reference or indices,
        the weight of the anchor).

        Parts add up, by ``normalizer=`` or as totals, where they are pairs that are given, or anchors against one and
        the same reference; halves of a labelled batch do not.

    Units:
        Margins are in the unit of the distance; the loss is in that unit to the ``power``.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> pairs = Pairs(tensor([[0.0], [0.0]]), tensor([[3.0], [0.4]]))
    >>> ContrastiveLoss(reduction="none")(pairs, tensor([1, 0]))  # 3**2 / 2, (1 - 0.4)**2 / 2
    tensor([4.5000, 0.1800])
    """

    each_pair_once = True

    @checked
    def __init__(
        self,
        *,
        margin: Positive = 1.0,
        positive_margin: NonNegative = 0.0,
        power: Literal[1, 2] = 2,
        distance: Distance = "euclidean",
        average: Literal["all", "active", "balanced"] = "all",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.margin = margin
        self.positive_margin = positive_margin
        self.power: Literal[1, 2] = power
        self.distance: Distance = distance
        self.average = average
        self.reduction = reduction

    @property
    def measure(self) -> str:
        return self.distance

    @property
    def gap(self) -> float:
        return self.margin - self.positive_margin

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return self._of(self.pairs(output, target))

    def denominators(self, items: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor | None:
        return None if self.average == "all" else (items != 0).to(items.dtype)  # a NaN costs something too

    def item_weights(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return self.pair_weights(weight, output)

    def fast_total(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total | None:
        if isinstance(output, Pairs) and self.average == "balanced":
            return self.plain_total(output, target, weight)
        return super().fast_total(output, target, weight)

    def plain_total(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total:
        if self.average != "balanced":
            return self.definition_total(output, target, weight)
        pairs = self.pairs(output, target)
        items = self._of(pairs)
        weight = None if weight is None else self.pair_weights(weight, output)
        sums, denominators = zip(
            *(
                total_of(items.masked_fill(~side, 0), weight, ((items != 0) & side).to(items.dtype))
                for side in (pairs.same, ~pairs.same)
            ),
            strict=True,
        )
        return Total(torch.stack(sums), torch.stack(denominators))

    def dense(self, batch: LabelledBatch) -> Dense:
        return Dense(
            partial(dense_contrastive, **self._settings()),
            of_pairs=True,
            in_arrays=partial(distances.contrastive, **self._settings()),
        )

    def tiling(self, batch: LabelledBatch) -> Tiling:
        # of classes that stand far apart among the others; where nothing may be read, nobody knows how many positives
        few = batch.has_reference and len(batch.anchors) <= 2 * sizes().rows and may_read(batch.anchors)
        tiled = tiled_contrastive_between if few else tiled_contrastive
        function = partial(tiled, **self._settings())
        return Tiling(function, upper=not batch.has_reference, outputs=2 if self.average == "balanced" else 1)

    def index_sums(self, batch: LabelledBatch) -> IndexLists | None:
        anchor, positive, negative_anchor, negative = batch.pairs()
        if not are_many(len(anchor) + len(negative_anchor), batch.anchors, batch.others):
            return None
        near = partial(near_costs, margin=self.positive_margin, power=self.power)
        far = partial(far_costs, margin=self.margin, power=self.power)
        of_same = Listed(strips_of((anchor, positive)), near, self.average == "all")
        of_different = Listed(strips_of((negative_anchor, negative)), far, self.average == "all")
        return IndexLists([[of_same], [of_different]] if self.average == "balanced" else [[of_same, of_different]])

    def row_costs(self, output: Pairs, target: Tensor) -> RowCosts | None:
        if self.average == "balanced":
            return None
        return costs_of_pairs(
            target,
            self.distance,
            margin=self.margin,
            positive_margin=self.positive_margin,
            power=self.power,
            counts_free=self.average == "all",
        )

    def _settings(self) -> dict[str, Any]:
        """Return what decides on the sums over a batch."""
        return {
            "margin": self.margin,
            "positive_margin": self.positive_margin,
            "power": self.power,
            "average": self.average,
        }

    def _of(self, pairs: ListedPairs) -> Tensor:
        return contrastive(*pairs, margin=self.margin, positive_margin=self.positive_margin, power=self.power)
