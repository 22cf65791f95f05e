"""Contrastive loss: pairs of one class together, pairs of two classes a margin apart."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from losses.core.inputs import EMBEDDINGS, PAIRS
from losses.core.labelled import LabelledBatch
from losses.core.laws import NON_NEGATIVE, SYMMETRIC_IN_PAIRS
from losses.core.loss import Loss
from losses.core.outputs import Pairs
from losses.core.parameters import Distance, NonNegative, Positive, Reduction, checked
from losses.core.reduction import Total, total_of
from losses.core.registry import register
from losses.ops.distances import pairwise_distance, rowwise_distance
from losses.ops.pairs import tiled_contrastive
from losses.ops.readings import Readings, averaged, readings_of, share
from losses.ops.whole_batch import over_batch, tileable


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
    source="R. Hadsell, S. Chopra, Y. LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006, "
    "doi:10.1109/CVPR.2006.100",
)
class ContrastiveLoss(Loss):
    r"""Distance of what belongs together, and how far below the margin the rest comes.

    .. math::
        \ell(d) = \begin{cases}
            \tfrac1p \max(0,\ d - m_+)^p    & \text{same class} \\
            \tfrac1p \max(0,\ m - d)^p      & \text{different classes}
        \end{cases}

    With ``power=1`` and ``average="balanced"`` this is the value of ``ContrastiveLoss`` in pytorch-metric-learning.

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

    Units:
        Margins are in the unit of the distance; the loss is in that unit to the ``power``.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> pairs = Pairs(tensor([[0.0], [0.0]]), tensor([[3.0], [0.4]]))
    >>> ContrastiveLoss(reduction="none")(pairs, tensor([1, 0]))  # 3**2 / 2, (1 - 0.4)**2 / 2
    tensor([4.5000, 0.1800])
    """

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

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return self._of_pairs(*self._pairs(output, target))

    def mass(self, items: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor | None:
        return None if self.average == "all" else (items > 0).to(items.dtype)

    def spread(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if isinstance(output, Pairs):
            return weight
        if output.indices is not None:
            anchor, _, negative_anchor, _ = output.pairs()
            return weight[torch.cat([anchor, negative_anchor])]
        if output.has_reference:
            return weight.repeat_interleave(len(output.others))
        first, second = once(len(output.anchors), weight.device)
        return (weight[first] + weight[second]) / 2

    def summed(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total:
        if isinstance(output, LabelledBatch) and tileable(output, weight):
            settings: dict[str, Any] = {
                "margin": self.margin,
                "positive_margin": self.positive_margin,
                "power": self.power,
                "average": self.average,
            }
            sums, counts = over_batch(
                partial(tiled_contrastive, **settings),
                lambda batch: self._composed(batch, target, weight).sum.reshape(-1),
                output,
                self.distance,
                weight,
                upper=not output.has_reference,
                outputs=2 if self.average == "balanced" else 1,
            )
            return Total(sums, counts) if self.average == "balanced" else Total(sums[0], counts[0])
        return self._composed(output, target, weight)

    def _composed(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total:
        """Return the total as a plain composition."""
        distances, same = self._pairs(output, target)
        items = self._of_pairs(distances, same)
        if weight is not None:
            weight = self.spread(weight, output, target)
        mass = self.mass(items, output, target)
        if mass is None or self.average != "balanced":
            return total_of(items, weight, mass)
        positive, negative = (total_of(items * side, weight, mass * side) for side in (same, ~same))
        counts = torch.stack([torch.as_tensor(positive.weight), torch.as_tensor(negative.weight)])
        return Total(torch.stack([positive.sum, negative.sum]), counts)

    def observed(self, output: LabelledBatch | Pairs, target: Tensor) -> Readings:
        counts = [averaged(self, over).summed(output, target, None).weight for over in ("active", "all")]
        active = share(torch.as_tensor(counts[0]), counts[1])
        return readings_of(
            self, output, target, active=active, distance=self.distance, gap=self.margin - self.positive_margin
        )

    def _of_pairs(self, distances: Tensor, same: Tensor) -> Tensor:
        return contrastive(distances, same, margin=self.margin, positive_margin=self.positive_margin, power=self.power)

    def _pairs(self, output: LabelledBatch | Pairs, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance of every pair and whether it is of one class."""
        if isinstance(output, Pairs):
            return rowwise_distance(*output, self.distance), target > 0
        if output.indices is not None:
            anchor, positive, negative_anchor, negative = output.pairs()
            first, second = (
                output.anchors[torch.cat([anchor, negative_anchor])],
                output.others[torch.cat([positive, negative])],
            )
            return rowwise_distance(first, second, self.distance), torch.arange(len(first), device=first.device) < len(
                anchor
            )
        distances = pairwise_distance(output.anchors, output.others, self.distance)
        if output.has_reference:
            return distances.flatten(), output.positive.flatten()
        upper = once(len(distances), distances.device)
        return distances[upper], output.positive[upper]


def once(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the two indices of every unordered pair of a batch."""
    rows = torch.arange(size, device=device)
    later = size - 1 - rows  # how many come after each
    pairs = size * (size - 1) // 2
    first = rows.repeat_interleave(later, output_size=pairs)  # triu_indices would be compiled again for every size
    second = torch.arange(pairs, device=device) - (later.cumsum(0) - later)[first] + first + 1
    return first, second
