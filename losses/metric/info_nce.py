"""InfoNCE: a pair that belongs together is picked out among all that do not (NT-Xent, CLIP, SimCLR)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from losses.core.inputs import EMBEDDINGS, MATCHES
from losses.core.labelled import LabelledBatch
from losses.core.laws import NON_NEGATIVE, SCALE_INVARIANT
from losses.core.loss import Loss
from losses.core.outputs import Pairs
from losses.core.parameters import Positive, Reduction, checked
from losses.core.reduction import Total, total_of
from losses.core.registry import register
from losses.ops.distances import cosine_similarity
from losses.ops.log_space import softplus
from losses.ops.log_sums import MODEST, tiled_info_nce, tiled_matches, tiled_supervised_contrastive, tiled_views
from losses.ops.readings import Readings, readings_of, share, views_of
from losses.ops.tiles import over_tiles
from losses.ops.whole_batch import classes_of, over_batch, tileable


def info_nce(positive: Tensor, similarity: Tensor, negative: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return the loss ``(N, P)`` of P positive pairs of each of N anchors, 0 without negatives; see
    :class:`InfoNCELoss`.

    Args:
        positive: similarities of each anchor to its positives, ``(N, P)``.
        similarity: of each anchor to all it is compared with, ``(N, M)``.
        negative: ``(N, M)``, which of them are its negatives, or how often each counts as one.
        temperature: what similarities are divided by.
    """
    exists = negative.any(-1, keepdim=True)
    # without negatives the sum would be log 0, whose gradient is NaN
    times = negative.to(similarity.dtype).masked_fill(~exists, 1)
    against = (similarity / temperature + times.log()).logsumexp(-1, keepdim=True)
    return softplus(against - positive / temperature).masked_fill(~exists, 0)


@register(
    "info_nce",
    inputs=(EMBEDDINGS, MATCHES),
    aliases=("nt_xent",),
    laws=(NON_NEGATIVE, SCALE_INVARIANT),
    suits="learning without labels, from two views of each sample or two modalities of it; the larger the batch, "
    "the better",
    source="A. van den Oord, Y. Li, O. Vinyals, Representation Learning with Contrastive Predictive Coding, 2018, "
    "arXiv:1807.03748; "
    "negatives='both': T. Chen et al. (NT-Xent, SimCLR), 2020, arXiv:2002.05709; "
    "direction='both': A. Radford et al. (CLIP), 2021, arXiv:2103.00020",
)
class InfoNCELoss(Loss):
    r"""Cross-entropy of picking an anchor's positive out of it and all of the anchor's negatives.

    .. math::
        \ell(a, p) = -\log \frac{e^{s_{ap} / T}}{e^{s_{ap} / T} + \sum_n e^{s_{an} / T}}
                   = \log\Big(1 + \sum_n e^{(s_{an} - s_{ap}) / T}\Big)

    :math:`s` are cosine similarities. On a labelled batch this is the value of ``NTXentLoss`` in
    pytorch-metric-learning, in memory that grows with N, where that one lists every positive pair with every negative
    pair.

    Args:
        temperature: :math:`T`; the lower, the more the hardest negatives dominate.
        negatives: of ``Pairs``, an anchor's negatives are the other rows of the ``"second"`` set, the one that its
            positive is of (CLIP), or all other rows of ``"both"`` (SimCLR).
        direction: of ``Pairs``, rows of ``first`` are anchors (``"forward"``) or rows of ``"both"`` in turn.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one positive pair (anchor, positive). Without a
            negative it costs 0, and counts.

    A labelled batch takes no notice of ``negatives`` and ``direction``: every embedding is an anchor, all of its class
    are its positives, all of other classes its negatives. With one label for the two views of a sample it is
    ``negatives="both"``.

    Shapes:
        ``Pairs(first, second)``, each ``(N, D)``, where row i of one matches row i of the other, with ``None``; items
        ``(2 N,)``, first to second and then second to first, or ``(N,)`` with ``direction="forward"``. Or embeddings
        ``(N, D)`` with integer labels ``(N,)``; items in the order of anchors, then positives. ``indices=`` takes the
        tuple of a pytorch-metric-learning miner (what it lists twice counts twice), ``reference=(embeddings, labels)``
        another set to take positives and negatives from. ``weight`` is one per row of the pairs, for both directions,
        or one per anchor; what has weight 0 is still a negative of others.

    Units:
        Similarities and ``temperature`` are pure numbers; the loss is in nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> pairs = Pairs(tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> InfoNCELoss(temperature=1.0, reduction="none")(pairs)  # log(1 + exp(.)) of 1 - 1, 0 - 0, then 0 - 1, 1 - 0
    tensor([0.6931, 0.6931, 0.3133, 1.3133])
    """

    @checked
    def __init__(
        self,
        *,
        temperature: Positive = 0.1,
        negatives: Literal["second", "both"] = "second",
        direction: Literal["both", "forward"] = "both",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.negatives = negatives
        self.direction = direction
        self.reduction = reduction

    def items(self, output: LabelledBatch | Pairs, target: Tensor | None) -> Tensor:
        if isinstance(output, Pairs):
            return self._items_of_pairs(output)
        values, _ = self._values(output)
        if output.indices is None:
            return values[output.positive]
        anchor, positive, _, _ = output.pairs()
        return values[anchor, positive]

    def spread(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor | None) -> Tensor:
        if isinstance(output, Pairs):
            return weight.repeat(2) if self.direction == "both" else weight
        if output.indices is None:
            return weight.repeat_interleave(output.positive.sum(1))
        return weight[output.pairs()[0]]

    def summed(self, output: LabelledBatch | Pairs, target: Tensor | None, weight: Tensor | None) -> Total:
        if isinstance(output, Pairs):
            return (
                self._summed_over_rows(output, weight)
                if tileable(output, weight)
                else super().summed(output, target, weight)
            )
        if not tileable(output, weight):
            return self._composed(output, weight)
        sums, counts = over_batch(
            tiled_info_nce,
            lambda batch: self._composed(batch, weight).sum.unsqueeze(0),
            output,
            "similarity",
            weight,
            scale=1 / self.temperature,
        )
        return Total(sums[0], counts[0])

    def observed(self, output: LabelledBatch | Pairs, target: Tensor | None) -> Readings:
        batch = views_of(output) if isinstance(output, Pairs) else output
        anchors = classes_of(batch).positives > 0 if batch.indices is None else (batch.occurrences()[0] > 0).any(1)
        return readings_of(self, output, target, active=share(anchors.sum(), len(anchors)), distance="cosine", gap=0.0)

    def _composed(self, batch: LabelledBatch, weight: Tensor | None) -> Total:
        """Return the total of a labelled batch as a plain composition."""
        values, positive = self._values(batch)
        positive = positive.to(values.dtype)
        return total_of(values.masked_fill(positive == 0, 0) * positive, weight, positive)

    def _summed_over_rows(self, pairs: Pairs, weight: Tensor | None) -> Total:
        """Return the total of matching rows in blocks: of two views on top of each other, or of one set against the
        other."""
        both, scale = self.direction == "both", 1 / self.temperature

        def composed(*points: Tensor) -> Tensor:
            given = points if len(points) == 2 else points[0].chunk(2)
            return super(InfoNCELoss, self).summed(Pairs(*given), None, weight).sum.unsqueeze(0)

        share = pairs.first.new_ones(len(pairs.first)) if weight is None else weight
        if self.negatives == "second":
            kernel = partial(tiled_matches, share=share.unsqueeze(1), both=both)
            sums, _ = over_tiles(kernel, composed, *pairs, "similarity", scale=scale)
        elif scale <= MODEST:
            shares = torch.cat([share, share if both else torch.zeros_like(share)]).unsqueeze(1)
            kernel = partial(tiled_views, share=shares)
            sums, _ = over_tiles(kernel, composed, torch.cat(pairs), None, "similarity", scale=scale, upper=True)
        else:
            views = views_of(pairs)
            shares = torch.cat([share, share if both else torch.zeros_like(share)])
            sums, _ = over_batch(
                tiled_supervised_contrastive,
                lambda batch: composed(batch.anchors),
                views,
                "similarity",
                shares,
                scale=scale,
            )
        return Total(sums[0], (2 if both else 1) * (len(share) if weight is None else share.sum()))

    def _items_of_pairs(self, pairs: Pairs) -> Tensor:
        """Return the loss of every row of the pairs, in one direction after the other."""
        across = cosine_similarity(*pairs)
        itself = torch.eye(len(across), dtype=torch.bool, device=across.device)
        ways = []
        for anchors, similarity in zip(pairs, (across, across.mT), strict=True):
            positive, negative = similarity.diagonal().unsqueeze(1), ~itself
            if self.negatives == "both":
                similarity = torch.cat([similarity, cosine_similarity(anchors, anchors)], 1)
                negative = negative.repeat(1, 2)
            ways.append(info_nce(positive, similarity, negative, temperature=self.temperature).squeeze(1))
            if self.direction == "forward":
                break
        return torch.cat(ways)

    def _values(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """Return ``(N, M)``: what every other would cost as a positive of each anchor, and how often it is one."""
        similarity = cosine_similarity(batch.anchors, batch.others)
        positive, negative = batch.occurrences()
        return info_nce(similarity, similarity, negative, temperature=self.temperature), positive
