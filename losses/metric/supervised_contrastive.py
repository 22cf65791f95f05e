"""Supervised contrastive loss: an anchor picks its own class out of the whole batch."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    SCALE_INVARIANT,
    AnchorLoss,
    AnchorRows,
    Fits,
    LabelledBatch,
    Positive,
    Reduction,
    Tiling,
    checked,
    register,
)
from losses.ops.dense.arrays import log_sums
from losses.ops.dense.batch import Dense
from losses.ops.dense.log_sums import dense_supervised_contrastive
from losses.ops.indexed.rows import NamedRows
from losses.ops.numerics.log_space import masked_log_sum, softplus
from losses.ops.pairs.log_sums import MODEST
from losses.ops.pairs.sums_of_parts import SharedSums
from losses.ops.pairs.supervised_contrastive import (
    supervised_contrastive_by_pairs,
    supervised_contrastive_of_named,
    tiled_supervised_contrastive,
    tiled_supervised_contrastive_by_pairs,
)
from losses.ops.tiles.rows import Costs


def supervised_contrastive(rows: AnchorRows, *, temperature: float = 0.1) -> Tensor:
    """Return the loss of every anchor from its similarities, 0 where it has nothing to tell apart; see
    :class:`SupervisedContrastiveLoss`."""
    positives, negatives, is_positive, is_negative = rows
    among_positives = masked_log_sum(positives / temperature, is_positive)
    beyond = masked_log_sum(negatives / temperature, is_negative) - among_positives
    partition = among_positives + softplus(beyond).masked_fill(~is_negative.any(-1), 0)
    surprise = (partition.unsqueeze(-1) - positives / temperature).masked_fill(~is_positive, 0)
    mean = surprise.sum(-1) / is_positive.sum(-1).clamp(min=1)  # of -log of the softmax, never below 0
    return mean.masked_fill(~distinguishing(is_positive, is_negative), 0)


def distinguishing(is_positive: Tensor, is_negative: Tensor) -> Tensor:
    """Return which anchors have a positive and something to tell it from, be it another positive."""
    return is_positive.any(-1) & (is_positive.sum(-1) + is_negative.sum(-1) > 1)


@register(
    "supervised_contrastive",
    inputs=EMBEDDINGS,
    aliases=("supcon",),
    laws=(NON_NEGATIVE, SCALE_INVARIANT),
    suits="pre-training on labels, and embeddings of classes with many members per batch; all positives count at once",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns similarities, which new classes have too; all positives count at once",
    ),
    source="P. Khosla et al., Supervised Contrastive Learning, 2020, arXiv:2004.11362, eq. 2 (L_out)",
)
class SupervisedContrastiveLoss(AnchorLoss):
    r"""Cross-entropy of finding each of an anchor's positives among all it is compared with, averaged over its
    positives.

    .. math::
        \ell_i = \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{s_{ip} / T}}{\sum_{a \in A(i)} e^{s_{ia} / T}}

    :math:`s` are cosine similarities, :math:`A(i)` is everything but the anchor :math:`i` itself, :math:`P(i)` what is
    of its class. This is the value of ``SupConLoss`` in pytorch-metric-learning 2.9, which however gives 0 to a batch
    without any negative (here its positives are still told from one another, as the formula says), and leaves out of
    its mean the anchors whose loss rounds to 0.

    Args:
        temperature: :math:`T`; the lower, the more the hardest comparisons dominate.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one anchor. An anchor without a positive, or with one
            and nothing to tell it from, has value 0 and does not count in the mean.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``; items ``(N,)``. ``indices=`` takes the tuple of a
        pytorch-metric-learning miner: :math:`P` is its positive pairs, :math:`A` all its pairs, each once.
        ``reference=(embeddings, labels)`` is another set to compare with. ``weight`` is one per anchor.

        Parts add up, by ``normalizer=`` or as totals, where they are anchors against one and the same reference; halves
        of a labelled batch do not.

    Units:
        Similarities and ``temperature`` are pure numbers; the loss is in nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> embeddings = tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = SupervisedContrastiveLoss(temperature=1.0, reduction="none")
    >>> loss(embeddings, tensor([0, 0, 1]))  # log((exp(1) + exp(0)) / exp(1)) for the first two
    tensor([0.3133, 0.3133, 0.0000])
    """

    @checked
    def __init__(self, *, temperature: Positive = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction = reduction

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        return supervised_contrastive(rows, temperature=self.temperature)

    def costs_of_named(self, rows: NamedRows) -> Costs:
        return supervised_contrastive_of_named(rows, scale=1 / self.temperature)

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor:
        return distinguishing(is_positive, is_negative)

    def dense(self, batch: LabelledBatch) -> Dense:
        return Dense(
            partial(dense_supervised_contrastive, temperature=self.temperature),
            in_arrays=partial(log_sums.supervised_contrastive, temperature=self.temperature),
        )

    def tiling(self, batch: LabelledBatch) -> Tiling:
        scale = 1 / self.temperature
        if not batch.has_reference and scale <= MODEST:
            return Tiling(tiled_supervised_contrastive_by_pairs, scale=scale, upper=True)
        return Tiling(tiled_supervised_contrastive, scale=scale)

    def shared_sums(self) -> SharedSums | None:
        scale = 1 / self.temperature
        return SharedSums(supervised_contrastive_by_pairs, scale) if scale <= MODEST else None
