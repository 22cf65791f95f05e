"""InfoNCE: a pair that belongs together is picked out among all that do not (NT-Xent, CLIP, SimCLR)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    MATCHES,
    NON_NEGATIVE,
    SCALE_INVARIANT,
    EmbeddingLoss,
    Fits,
    LabelledBatch,
    Pairs,
    Positive,
    Reduction,
    Tiling,
    Total,
    checked,
    register,
    total_of,
    views_of,
)
from losses.ops.dense.arrays import log_sums
from losses.ops.dense.arrays.means import matches_mean
from losses.ops.dense.batch import Dense
from losses.ops.dense.differentiable import differentiable
from losses.ops.dense.log_sums import dense_info_nce, dense_matches, dense_views
from losses.ops.dense.matrix import DenseMatrix, are_few
from losses.ops.distances import cosine_similarity
from losses.ops.eager import on_cpu
from losses.ops.indexed.rows import IndexRows, named, sum_of_named_rows
from losses.ops.numerics.log_space import softplus
from losses.ops.pairs.info_nce import info_nce_of_named, tiled_info_nce, tiled_matches, tiled_views
from losses.ops.pairs.log_sums import MODEST
from losses.ops.pairs.supervised_contrastive import tiled_supervised_contrastive
from losses.ops.tiles.differentiable import over_tiles
from losses.ops.tiles.whole_batch import classes_of, normalised, over_batch, tileable


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
    fits=Fits(
        task=("self_supervised_learning", "metric_learning"),
        open_set="learns similarities, without classes",
    ),
    source="A. van den Oord, Y. Li, O. Vinyals, Representation Learning with Contrastive Predictive Coding, 2018, "
    "arXiv:1807.03748; "
    "negatives='both': T. Chen et al. (NT-Xent, SimCLR), 2020, arXiv:2002.05709; "
    "direction='both': A. Radford et al. (CLIP), 2021, arXiv:2103.00020",
)
class InfoNCELoss(EmbeddingLoss):
    r"""Cross-entropy of picking an anchor's positive out of it and all of the anchor's negatives.

    .. math::
        \ell(a, p) = -\log \frac{e^{s_{ap} / T}}{e^{s_{ap} / T} + \sum_n e^{s_{an} / T}}
                   = \log\Big(1 + \sum_n e^{(s_{an} - s_{ap}) / T}\Big)

    :math:`s_{ap}` is the cosine similarity of an anchor :math:`a` and its positive :math:`p`, :math:`s_{an}` that of
    the anchor and one of its negatives :math:`n`. On a labelled batch this is the value of ``NTXentLoss`` in
    pytorch-metric-learning 2.9, in memory that grows with N, where that one lists every positive pair with every
    negative pair.

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

        Parts add up, by ``normalizer=`` or as totals, where they are anchors against one and the same reference; halves
        of the views, or of a labelled batch, do not.

    Units:
        Similarities and ``temperature`` are pure numbers; the loss is in nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> pairs = Pairs(tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> InfoNCELoss(temperature=1.0, reduction="none")(pairs)  # log(1 + exp(.)) of 1 - 1, 0 - 0, then 0 - 1, 1 - 0
    tensor([0.6931, 0.6931, 0.3133, 1.3133])
    """

    exemptions: ClassVar[Mapping[str, str]] = {
        "indices_said_twice": "a negative that indices name twice stands twice in the sum of exponentials, as it does "
        "where a reference holds it twice"
    }

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
            return self._items_of_matches(output)
        values, _ = self._costs(output)
        if output.indices is None:
            return values[output.positive]
        anchor, positive, _, _ = output.pairs()
        return values[anchor, positive]

    def item_weights(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor | None) -> Tensor:
        if isinstance(output, Pairs):
            return weight.repeat(2) if self.direction == "both" else weight
        if output.indices is None:
            return weight.repeat_interleave(output.positive.sum(1))
        return weight[output.pairs()[0]]

    def fast_total(self, output: LabelledBatch | Pairs, target: Tensor | None, weight: Tensor | None) -> Total | None:
        if isinstance(output, Pairs):
            return self._total_of_matches(output, weight) if tileable(output, weight) else None
        return super().fast_total(output, target, weight)

    def fast_mean(self, output: LabelledBatch | Pairs, target: Tensor | None) -> Tensor | None:
        if not isinstance(output, Pairs):
            return super().fast_mean(output, target)
        return self._small_matches(output, None, mean=True) if tileable(output) else None

    def compares(self, output: Any) -> bool:
        return True

    def part_total(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        everyone: tuple[Any, Any],
        place: int,
        indices: tuple[Tensor, ...] | None = None,
    ) -> Total:
        """Return the total of anchors, or of the rows of ``Pairs``, that are a part of a larger batch."""
        if not isinstance(output, tuple):
            return super().part_total(output, target, weight, everyone, place, indices)
        number = torch.arange(len(everyone[0].first), device=output[0].device)
        own = number[place : place + len(output[0])]
        totals = []
        for side in range(2 if self.direction == "both" else 1):
            context: dict[str, Any] = {"reference": (everyone[0][1 - side], number)}
            if self.negatives == "both":
                views = torch.cat(everyone[0]), number.repeat(2)
                context = {"reference": views, "place": place + side * len(number)}
            totals.append(self._on_accepted(self._total, output[side], own, weight, context))
        return sum(totals[1:], totals[0])

    def plain_total(self, output: LabelledBatch, target: Tensor | None, weight: Tensor | None) -> Total:
        values, positive = self._costs(output)
        positive = positive.to(values.dtype)
        return total_of(values.masked_fill(positive == 0, 0) * positive, weight, positive)

    def dense(self, batch: LabelledBatch) -> Dense:
        return Dense(
            partial(dense_info_nce, temperature=self.temperature),
            in_arrays=partial(log_sums.info_nce, temperature=self.temperature),
        )

    def tiling(self, batch: LabelledBatch) -> Tiling:
        return Tiling(tiled_info_nce, scale=1 / self.temperature)

    def index_sums(self, batch: LabelledBatch) -> IndexRows:
        shape = batch.anchors.shape[0], batch.others.shape[0]
        anchor, positive, negative_anchor, negative = batch.pairs()
        sums = partial(
            sum_of_named_rows,
            positive=named(anchor, positive, shape, batch.anchors.dtype),
            negative=named(negative_anchor, negative, shape, batch.anchors.dtype),
            absent=(0.0, -torch.inf),
            cost=partial(info_nce_of_named, scale=1 / self.temperature),
            count=lambda rows: rows.times_positive.sum(1, keepdim=True),
        )
        return IndexRows(sums)

    def active_items(self, output: LabelledBatch | Pairs, target: Tensor | None) -> tuple[Tensor, int]:
        batch = views_of(output) if isinstance(output, Pairs) else output
        positives = classes_of(batch).positives if batch.indices is None else batch.occurrences()[0].sum(1)
        return (positives > 0).sum(), len(positives)

    def _costs(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """Return ``(N, M)``: what every other would cost as a positive of each anchor, and how often it is one."""
        similarity = cosine_similarity(batch.anchors, batch.others)
        positive, negative = batch.occurrences()
        return info_nce(similarity, similarity, negative, temperature=self.temperature), positive

    def _items_of_matches(self, pairs: Pairs) -> Tensor:
        """Return the loss of every row of the pairs, in one direction after the other."""
        across = cosine_similarity(*pairs)
        itself = torch.eye(across.shape[0], dtype=torch.bool, device=across.device)
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

    def _small_matches(self, pairs: Pairs, weight: Tensor | None, *, mean: bool = False) -> Tensor | None:
        """Return the sum over matching rows, or their mean, in one piece; ``None`` where they are many."""
        stacked = self.negatives == "both"
        sizes = [pairs.first.shape[0], pairs.second.shape[0]]
        if not are_few(sum(sizes) ** 2 if stacked else sizes[0] * sizes[1], pairs.first, "similarity"):
            return None

        def definition(*points: Tensor) -> Tensor:
            total = self.definition_total(Pairs(*points), None, weight)
            return total.mean() if mean else total.sum

        if mean and self.direction == "both" and on_cpu(pairs.first):
            formula = partial(log_sums.views if stacked else log_sums.matches, temperature=self.temperature)
            found = matches_mean(formula, definition, *pairs, stacked=stacked)
            if found is not None:
                return found
        first, second = (torch.cat(pairs), None) if stacked else pairs
        wanted = [torch.is_grad_enabled() and side.requires_grad for side in pairs]
        follows = (any(wanted), False) if stacked else wanted
        matrix, dense = (
            DenseMatrix(first, second, "similarity", follows=follows),
            dense_views if stacked else dense_matches,
        )
        both, each = self.direction == "both", None if weight is None else weight.unsqueeze(1)
        sums = dense(matrix, each, temperature=self.temperature, both=both)
        return differentiable(matrix, sums, definition, *pairs, mean=mean, stacked=stacked)

    def _total_of_matches(self, pairs: Pairs, weight: Tensor | None) -> Total:
        """Return the total of matching rows in blocks: of two views on top of each other, or of one set against the
        other."""
        both, scale = self.direction == "both", 1 / self.temperature

        relative, greatest = normalised(weight)
        small = self._small_matches(pairs, relative)
        if small is not None:
            number = (2 if both else 1) * (len(pairs.first) if weight is None else weight.sum())
            return Total(small if weight is None else small * greatest, number)

        def plain_sum(*points: Tensor) -> Tensor:
            given = points if len(points) == 2 else points[0].chunk(2)
            return self.definition_total(Pairs(*given), None, relative).sum.unsqueeze(0)

        row_weight = pairs.first.new_ones(len(pairs.first)) if relative is None else relative
        of_views = torch.cat([row_weight, row_weight if both else torch.zeros_like(row_weight)])
        if self.negatives == "second":
            matches = partial(tiled_matches, row_weight=row_weight.unsqueeze(1), both=both)
            sums, _ = over_tiles(matches, plain_sum, *pairs, "similarity", scale=scale)
        elif scale <= MODEST:
            views = partial(tiled_views, row_weight=of_views.unsqueeze(1))
            sums, _ = over_tiles(views, plain_sum, torch.cat(pairs), None, "similarity", scale=scale, upper=True)
        else:
            tiling = Tiling(tiled_supervised_contrastive, scale=scale)
            batch = views_of(pairs)
            sums, _ = over_batch(tiling, lambda batch: plain_sum(batch.anchors), batch, "similarity", of_views)
        if weight is None:
            return Total(sums[0], (2 if both else 1) * len(row_weight))
        return Total(sums[0] * greatest, (2 if both else 1) * weight.sum())
