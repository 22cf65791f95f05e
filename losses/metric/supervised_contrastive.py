"""Supervised contrastive loss: an anchor picks its own class out of the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    SCALE_INVARIANT,
    AnchorLoss,
    AnchorRows,
    LabelledBatch,
    Positive,
    Reduction,
    Tiling,
    checked,
    register,
)
from losses.ops.pairs.log_sums import MODEST
from losses.ops.pairs.supervised_contrastive import tiled_supervised_contrastive, tiled_supervised_contrastive_by_pairs


def supervised_contrastive(
    similarity: Tensor, positive: Tensor, negative: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Return the loss of every row of similarities, 0 where it has nothing to tell apart.

    Args:
        similarity: of every anchor to every other embedding, ``(N, M)``.
        positive, negative: ``(N, M)``, which of them are of its class and of others.
        temperature: see :class:`SupervisedContrastiveLoss`.
    """
    valid = distinguishing(positive, negative)
    logits = similarity / temperature
    compared = positive | negative
    # a row without anything to compare with would be log 0: give it something finite and drop it
    partition = logits.masked_fill(~(compared | ~valid.unsqueeze(-1)), -torch.inf).logsumexp(-1, keepdim=True)
    surprise = (partition - logits).masked_fill(~positive, 0)  # -log of the softmax, never below 0
    return (surprise.sum(-1) / positive.sum(-1).clamp(min=1)).masked_fill(~valid, 0)


def distinguishing(positive: Tensor, negative: Tensor) -> Tensor:
    """Return which rows have a positive and something to tell it from, be it another positive."""
    return positive.any(-1) & ((positive | negative).sum(-1) > 1)


@register(
    "supervised_contrastive",
    inputs=EMBEDDINGS,
    aliases=("supcon",),
    laws=(NON_NEGATIVE, SCALE_INVARIANT),
    suits="pre-training on labels, and embeddings of classes with many members per batch; all positives count at once",
    source="P. Khosla et al., Supervised Contrastive Learning, 2020, arXiv:2004.11362, eq. 2 (L_out)",
)
class SupervisedContrastiveLoss(AnchorLoss):
    r"""Cross-entropy of finding each of an anchor's positives among all it is compared with, averaged over its
    positives.

    .. math::
        \ell_i = \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{s_{ip} / T}}{\sum_{a \in A(i)} e^{s_{ia} / T}}

    :math:`s` are cosine similarities, :math:`A(i)` is everything but the anchor itself, :math:`P(i)` what is of its
    class. This is the value of ``SupConLoss`` in pytorch-metric-learning, which however gives 0 to a batch without any
    negative, and leaves out of its mean the anchors whose loss rounds to 0.

    Args:
        temperature: :math:`T`; the lower, the more the hardest comparisons dominate.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one anchor. An anchor without a positive, or with one
            and nothing to tell it from, has value 0 and does not count in the mean.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``; items ``(N,)``. ``indices=`` takes the tuple of a
        pytorch-metric-learning miner: :math:`P` is its positive pairs, :math:`A` all its pairs, each once.
        ``reference=(embeddings, labels)`` is another set to compare with. ``weight`` is one per anchor.

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
        return supervised_contrastive(*rows, temperature=self.temperature)

    def counted(self, positive: Tensor, negative: Tensor) -> Tensor:
        return distinguishing(positive, negative)

    def tiling(self, batch: LabelledBatch) -> Tiling:
        scale = 1 / self.temperature
        if not batch.has_reference and scale <= MODEST:
            return Tiling(tiled_supervised_contrastive_by_pairs, scale=scale, upper=True)
        return Tiling(tiled_supervised_contrastive, scale=scale)
