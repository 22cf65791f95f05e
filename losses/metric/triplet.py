"""Triplet loss: an anchor lies nearer to its own class than to any other, by a margin."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    TRIPLETS,
    Average,
    Distance,
    EmbeddingLoss,
    Fits,
    LabelledBatch,
    NonNegative,
    Reduction,
    Tiling,
    Total,
    Triplets,
    accumulated,
    checked,
    register,
    weighted,
)
from losses.ops.dense.arrays import distances
from losses.ops.dense.batch import Dense
from losses.ops.dense.triplets import dense_mined, dense_triplets
from losses.ops.dense.unlisted_triplets import dense_unlisted
from losses.ops.distances import just_beyond, pairwise_distance, squares_of_anchors
from losses.ops.eager import may_read, on_cpu
from losses.ops.indexed.lists import IndexLists, Listed, Strip, are_many, triplet_strips, with_slopes
from losses.ops.indexed.pairs import measured_at
from losses.ops.rowwise import RowCosts, listed_costs, measured_side_by_side
from losses.ops.tiles.whole_batch import tileable, tiles_of
from losses.ops.triplets.definitions import (
    Compared,
    cost,
    farthest_told,
    hardest,
    items_of_all,
    semi_hard_costs,
    sums_of_all,
    sums_of_mined,
)
from losses.ops.triplets.hardest import tiled_hardest
from losses.ops.triplets.hinge import array_hinges, hinge_costs, row_hinges, tiled_hinge
from losses.ops.triplets.semi_hard import tiled_semi_hard
from losses.ops.triplets.soft import tiled_soft
from losses.ops.triplets.swapped import tiled_swapped


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float | None = 0.2,
    distance: Distance = "euclidean",
    swap: bool = False,
) -> Tensor:
    """Return the loss of every triplet ``(N,)``, unreduced; a margin of ``None`` is soft; see :class:`TripletLoss`."""
    near, far = (measured_side_by_side(anchor, other, distance) for other in (positive, negative))
    if swap:
        far = torch.minimum(far, measured_side_by_side(positive, negative, distance))
    return cost(near - farthest_told(far), margin)


@register(
    "triplet",
    inputs=(EMBEDDINGS, TRIPLETS),
    laws=(NON_NEGATIVE,),
    suits="embeddings for retrieval and verification of classes that were never seen in training",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns which of two is nearer, which new classes can be asked too",
    ),
    source="F. Schroff, D. Kalenichenko, J. Philbin, FaceNet, 2015, arXiv:1503.03832; mining='hard' and margin='soft': "
    "A. Hermans, L. Beyer, B. Leibe, 2017, arXiv:1703.07737; swap: V. Balntas et al., BMVC 2016",
)
class TripletLoss(EmbeddingLoss):
    r"""How much nearer than the margin allows a negative comes, over all triplets of a labelled batch or those given.

    .. math::
        \ell(a, p, n) = \max(0,\ d(a, p) - d(a, n) + m)
        \qquad\text{or, soft,}\quad \log\big(1 + e^{d(a, p) - d(a, n)}\big)

    :math:`d` is the distance, :math:`a` an anchor, :math:`p` a positive, which is of its class, :math:`n` a negative,
    which is of another. All triplets of a labelled batch are summed exactly without forming them.

    Args:
        margin: :math:`m`, or ``"soft"``.
        distance: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"`` (1 - cosine).
        mining: which triplets of a labelled batch count: ``"all"``; ``"hard"``, for each anchor the farthest positive
            with the nearest negative; ``"semi_hard"``, for each positive the nearest negative farther away than it,
            else the farthest negative (distances are told apart in float64, and are equal if they differ by no more
            than that is rounded). Triplets that are given explicitly all count.
        average: the mean is over triplets that still cost something (``"active"``) or over ``"all"``.
        swap: the negative counts at its distance to the anchor or to the positive, whichever is less.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one triplet, ordered by anchor, positive, negative.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``, or ``Triplets(anchor, positive, negative)``, each ``(N,
        D)``, with ``None``. ``indices=`` takes the tuple of a pytorch-metric-learning miner, ``reference=(embeddings,
        labels)`` another set to take positives and negatives from. ``weight`` is one per anchor ``(N,)``.

        Parts add up, by ``normalizer=`` or as totals, where they are triplets that are given, or anchors against one
        and the same reference; halves of a labelled batch do not.

    Units:
        ``margin`` and the loss are in the unit of the distance.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> embeddings = tensor([[0.0], [1.0], [3.0]])
    >>> TripletLoss(margin=2.5, average="all")(embeddings, tensor([0, 0, 1]))  # (1 - 3 + 2.5), (1 - 2 + 2.5)
    tensor(1.)
    """

    @checked
    def __init__(
        self,
        *,
        margin: NonNegative | Literal["soft"] = 0.2,
        distance: Distance = "euclidean",
        mining: Literal["all", "hard", "semi_hard"] = "all",
        average: Average = "active",
        swap: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.margin = margin
        self.distance: Distance = distance
        self.mining = mining
        self.average: Average = average
        self.swap = swap
        self.reduction = reduction

    @property
    def measure(self) -> str:
        return self.distance

    @property
    def mines(self) -> bool:
        return self.mining != "all"

    @property
    def gap(self) -> float:
        return self._limit or 0.0

    def items(self, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor:
        if isinstance(output, Triplets):
            return self._of(*output)
        if output.indices is not None:
            return self._of_indices(output)
        if self.mining == "all":
            return items_of_all(self._compared(output), self._limit)
        values, exists = self._mined(output)
        return values[exists]

    def denominators(self, items: Tensor, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor | None:
        # a soft margin is never free, even where it is too small for the dtype
        return (items != 0).to(items.dtype) if self.average == "active" and self._limit is not None else None

    def item_weights(self, weight: Tensor, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor:
        if isinstance(output, Triplets):
            return weight
        if output.indices is not None:
            return weight[output.triplets()[0]]
        if self.mining == "all":
            return weight.repeat_interleave(output.positive.sum(1) * output.negative.sum(1))
        exists = self._mined(output)[1]
        return weight.reshape(-1, *[1] * (exists.ndim - 1)).expand(exists.shape)[exists]

    def plain_total(self, output: LabelledBatch, target: Tensor | None, weight: Tensor | None) -> Total:
        if output.indices is not None:
            return self.definition_total(output, target, weight)
        if self.mining == "all":
            sums = sums_of_all(self._compared(output), self._limit)
        else:
            values, exists = self._mined(output)
            sums = sums_of_mined(values, exists, exists if self._limit is None else values != 0)
        counted = sums.active if self.average == "active" else sums.triplets
        if weight is None:
            return Total(sums.sum.sum(), counted.sum())
        return Total(weighted(sums.sum, weight).sum(), (counted * weight).sum())

    def dense(self, batch: LabelledBatch) -> Dense | None:
        if self.swap and batch.has_reference:
            return None  # which compares the others with one another too
        margin, average, swap = self._limit, self.average, self.swap
        if self.mining == "all":
            if not on_cpu(batch.anchors):
                return Dense(partial(dense_unlisted, margin=margin, average=average, swap=swap))
            function = partial(dense_triplets, margin=margin, average=average, swap=swap)
            hinge = None if margin is None or swap else partial(distances.triplets, margin=margin, average=average)
            return Dense(function, difference=1.0 if margin is None else margin, of_triplets=True, in_arrays=hinge)
        mined = partial(dense_mined, margin=margin, average=average, swap=swap)
        chosen_by_pair = self.mining == "semi_hard"
        if chosen_by_pair and not on_cpu(batch.anchors):
            return None  # it needs to be looked at who is whose positive
        return Dense(mined, precise=chosen_by_pair, of_triplets=chosen_by_pair)

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        average, margin, reads = self.average, self._limit, may_read(batch.anchors)
        if self.mining == "semi_hard":
            semi_hard = partial(tiled_semi_hard, margin=margin, average=average)
            return None if self.swap else Tiling(semi_hard, precise=True)
        if self.mining == "hard":
            return None  # they are few enough as they are
        if self.swap:
            swapped = partial(tiled_swapped, margin=margin, average=average)
            return Tiling(swapped, whole_classes=True) if reads and not batch.has_reference else None
        if margin is None:
            return Tiling(tiled_soft) if reads else None
        return Tiling(partial(tiled_hinge, margin=margin, average=average), few_buffers=True)

    def index_sums(self, batch: LabelledBatch) -> IndexLists | None:
        if self.swap and batch.has_reference:
            return None
        anchor, _, negative_anchor, _ = batch.pairs()
        if not are_many(len(anchor) + len(negative_anchor), batch.anchors, batch.others):
            return None
        if self._limit is None or self.swap:
            costs = with_slopes(self._of_distances)
        else:
            costs = partial(hinge_costs, margin=self._limit)
        strips = map(self._compared_pairs, triplet_strips(batch))
        return IndexLists([[Listed(strips, costs, counts_free=self.average == "all" or self._limit is None)]])

    def row_costs(self, output: Triplets, target: Tensor | None) -> RowCosts:
        sides = ((1, 0), (2, 0), (1, 2)) if self.swap else ((1, 0), (2, 0))
        counts_free = self.average == "all" or self._limit is None
        if self.swap or self._limit is None:
            return RowCosts(sides, self.distance, listed_costs(self._of_distances), counts_free)
        costs, array_cost = partial(row_hinges, margin=self._limit), partial(array_hinges, margin=self._limit)
        return RowCosts(sides, self.distance, costs, counts_free, array_cost)

    @property
    def _limit(self) -> float | None:
        return None if isinstance(self.margin, str) else self.margin

    def _of_indices(self, batch: LabelledBatch) -> Tensor:
        """Return the loss of every triplet that indices say."""
        (anchor, positive), (_, negative), *between = self._compared_pairs(batch.triplets())
        values = self.measured_at(batch, anchor.repeat(2), torch.cat([positive, negative])).chunk(2)
        if between:
            values = (*values, measured_at(batch.others, None, *between[0], self.distance))
        return self._of_distances(*values)

    def _compared_pairs(self, triplets: tuple[Tensor, Tensor, Tensor]) -> Strip:
        """Return which distances triplets compare: of anchor and positive, of anchor and negative, and with swap those
        of positive and negative."""
        anchor, positive, negative = triplets
        compared = (anchor, positive), (anchor, negative)
        return (*compared, (positive, negative)) if self.swap else compared

    def _of_distances(self, near: Tensor, far: Tensor, between: Tensor | None = None) -> Tensor:
        """Return what triplets cost by their distances."""
        return cost(near - farthest_told(far if between is None else torch.minimum(far, between)), self._limit)

    def _of(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return triplet(anchor, positive, negative, margin=self._limit, distance=self.distance, swap=self.swap)

    def _mined(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """Return the values of mined triplets, ``(N,)`` or ``(N, M)``, and which of them exist."""
        if self.mining == "semi_hard":
            values, exists = semi_hard_costs(self._precisely_compared(batch), self._limit)
            return values.to(batch.anchors.dtype), exists
        if tileable(batch):  # squares are in the same order, and roots take time
            measure = "cosine" if self.distance == "cosine" else "squared_euclidean"
            positive, negative, exists = tiled_hardest(*tiles_of(batch, measure))
        else:
            positive, negative, exists = hardest(self._compared(batch))
        if not batch.others.shape[0]:
            return self._compared(batch).distances.sum(1), exists
        chosen = batch.others.index_select(0, positive), batch.others.index_select(0, negative)
        return self._of(batch.anchors, *chosen).masked_fill(~exists, 0), exists

    def _compared(self, batch: LabelledBatch) -> Compared:
        between = pairwise_distance(batch.others, batch.others, self.distance) if self.swap else None
        distances = pairwise_distance(batch.anchors, batch.others, self.distance)
        return Compared(distances, batch.positive, batch.negative, between)

    def _precisely_compared(self, batch: LabelledBatch) -> Compared:
        """Return what is compared in the precision of the accumulation, for choices that rounding must not make."""
        batch = batch._replace(anchors=accumulated(batch.anchors), others=accumulated(batch.others))
        compared = self._compared(batch)
        with torch.no_grad():
            squares = squares_of_anchors(batch.anchors, batch.others, self.distance)
            beyond = just_beyond(compared.distances, squares, batch.anchors.shape[1], self.distance)
        return compared._replace(beyond=beyond)
