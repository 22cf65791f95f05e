"""Triplet loss: an anchor lies nearer to its own class than to any other, by a margin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from losses.core.inputs import EMBEDDINGS, TRIPLETS
from losses.core.labelled import LabelledBatch
from losses.core.laws import NON_NEGATIVE
from losses.core.loss import Loss
from losses.core.outputs import Triplets
from losses.core.parameters import Average, Distance, NonNegative, Reduction, checked
from losses.core.reduction import Total
from losses.core.registry import register
from losses.ops.distances import pairwise_distance, rowwise_distance
from losses.ops.triplets import AnchorSums, blocks_of_all, cost, hardest, hinge_of_all, semi_hard


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
    near, far = rowwise_distance(anchor, positive, distance), rowwise_distance(anchor, negative, distance)
    if swap:
        far = torch.minimum(far, rowwise_distance(positive, negative, distance))
    return cost(near - far, margin)


@register(
    "triplet",
    inputs=(EMBEDDINGS, TRIPLETS),
    laws=(NON_NEGATIVE,),
    suits="embeddings for retrieval and verification of classes that were never seen in training",
    source="F. Schroff, D. Kalenichenko, J. Philbin, FaceNet, 2015, arXiv:1503.03832; mining='hard' and margin='soft': "
    "A. Hermans, L. Beyer, B. Leibe, 2017, arXiv:1703.07737; swap: V. Balntas et al., BMVC 2016",
)
class TripletLoss(Loss):
    r"""How much nearer than the margin allows a negative comes, over all triplets of a labelled batch or those given.

    .. math::
        \ell(a, p, n) = \max(0,\ d(a, p) - d(a, n) + m)
        \qquad\text{or, soft,}\qquad \log\big(1 + e^{d(a, p) - d(a, n)}\big)

    All triplets of a labelled batch are summed exactly without forming them.

    Args:
        margin: :math:`m`, or ``"soft"``.
        distance: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"`` (1 - cosine).
        mining: which triplets of a labelled batch count: ``"all"``; ``"hard"``, for each anchor the farthest positive with
            the nearest negative; ``"semi_hard"``, for each positive the nearest negative farther away than it, else the
            farthest negative. Triplets that are given explicitly all count.
        average: the mean is over triplets that still cost something (``"active"``) or over ``"all"``.
        swap: the negative counts at its distance to the anchor or to the positive, whichever is less.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one triplet, ordered by anchor, positive, negative.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``, or ``Triplets(anchor, positive, negative)``, each ``(N, D)``,
        with ``None``. ``indices=`` takes the tuple of a pytorch-metric-learning miner, ``reference=(embeddings, labels)``
        another set to take positives and negatives from. ``weight`` is one per anchor ``(N,)``.

    Units:
        ``margin`` and the loss are in the unit of the distance.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> embeddings = tensor([[0.0], [1.0], [3.0]])
    >>> TripletLoss(margin=2.5, average="all")(embeddings, tensor([0, 0, 1]))  # (1 - 3 + 2.5), (1 - 2 + 2.5)
    tensor(1.0000)
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
        self.average = average
        self.swap = swap
        self.reduction = reduction

    def items(self, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor:
        if isinstance(output, Triplets):
            return triplet(*output, margin=self._limit, distance=self.distance, swap=self.swap)
        if output.indices is not None:
            anchor, positive, negative = output.triplets()
            chosen = output.anchors[anchor], output.others[positive], output.others[negative]
            return triplet(*chosen, margin=self._limit, distance=self.distance, swap=self.swap)
        if self.mining == "all":
            return self._items_of_all(output)
        values, exists = self._mined(output)
        return values[exists]

    def mass(self, items: Tensor, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor | None:
        # a soft margin is never free, even where it is too small for the dtype
        return (items > 0).to(items.dtype) if self.average == "active" and self._limit is not None else None

    def spread(self, weight: Tensor, output: LabelledBatch | Triplets, target: Tensor | None) -> Tensor:
        if isinstance(output, Triplets):
            return weight
        if output.indices is not None:
            return weight[output.triplets()[0]]
        if self.mining == "all":
            return weight.repeat_interleave(output.positive.sum(1) * output.negative.sum(1))
        exists = self._mined(output)[1]
        return weight.reshape(-1, *[1] * (exists.ndim - 1)).expand(exists.shape)[exists]

    def summed(self, output: LabelledBatch | Triplets, target: Tensor | None, weight: Tensor | None) -> Total:
        if isinstance(output, Triplets) or output.indices is not None:
            return super().summed(output, target, weight)
        sums = self._sums_of_all(output) if self.mining == "all" else self._sums_of_mined(output)
        counted = sums.active if self.average == "active" else sums.triplets
        if weight is None:
            return Total(sums.sum.sum(), counted.sum())
        return Total((sums.sum * weight).sum(), (counted * weight).sum())

    @property
    def _limit(self) -> float | None:
        return None if isinstance(self.margin, str) else self.margin

    def _items_of_all(self, batch: LabelledBatch) -> Tensor:
        """Return every triplet's value, anchor by anchor: the definition that :meth:`_sums_of_all` must equal."""
        distances, between = self._distances(batch)
        rows = []
        for row, same, other in zip(distances, batch.positive, batch.negative, strict=True):
            far = row[other].expand(int(same.sum()), -1)
            if between is not None:
                far = torch.minimum(far, between[same][:, other])
            rows.append(cost(row[same].unsqueeze(1) - far, self._limit).flatten())
        return torch.cat(rows) if rows else distances.flatten()

    def _sums_of_all(self, batch: LabelledBatch) -> AnchorSums:
        distances, between = self._distances(batch)
        if between is not None or self._limit is None:
            return blocks_of_all(distances, batch.positive, batch.negative, self._limit, between)
        return hinge_of_all(distances, batch.positive, batch.negative, self._limit)

    def _mined(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """Return the values of mined triplets, ``(N,)`` or ``(N, M)``, and which of them exist."""
        distances, between = self._distances(batch)
        mine = hardest if self.mining == "hard" else semi_hard
        positive, negative, exists = mine(distances, batch.positive, batch.negative)
        if distances.shape[1] == 0:
            return (distances.sum(1) if exists.ndim == 1 else distances), exists
        columns = (positive.unsqueeze(1), negative.unsqueeze(1)) if positive.ndim == 1 else (positive, negative)
        near, far = (distances.gather(1, index).reshape(positive.shape) for index in columns)
        if between is not None:
            far = torch.minimum(far, between[positive, negative])
        return cost(near - far, self._limit).masked_fill(~exists, 0), exists

    def _sums_of_mined(self, batch: LabelledBatch) -> AnchorSums:
        values, exists = self._mined(batch)
        active = exists if self._limit is None else values > 0
        return AnchorSums(*(part if part.ndim == 1 else part.sum(1) for part in (values, active, exists)))

    def _distances(self, batch: LabelledBatch) -> tuple[Tensor, Tensor | None]:
        distances = pairwise_distance(batch.anchors, batch.others, self.distance)
        return distances, pairwise_distance(batch.others, batch.others, self.distance) if self.swap else None
