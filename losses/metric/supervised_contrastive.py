"""Supervised contrastive loss: an anchor picks its own class out of the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.inputs import EMBEDDINGS
from losses.core.labelled import LabelledBatch
from losses.core.laws import NON_NEGATIVE, SCALE_INVARIANT
from losses.core.loss import Loss
from losses.core.parameters import Positive, Reduction, checked
from losses.core.reduction import Total
from losses.core.registry import register
from losses.ops.distances import cosine_similarity
from losses.ops.log_sums import MODEST, tiled_supervised_contrastive, tiled_supervised_contrastive_by_pairs
from losses.ops.readings import Readings, readings_of, share
from losses.ops.whole_batch import over_batch, tileable


def supervised_contrastive(
    similarity: Tensor, positive: Tensor, compared: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Return the loss of every row of similarities, 0 where it has nothing to tell apart; see
    :class:`SupervisedContrastiveLoss`.

    Args:
        similarity: of every anchor to every other embedding, ``(N, M)``.
        positive: ``(N, M)``, which of them are of the anchor's class.
        compared: ``(N, M)``, which of them it is compared with, the positives among them.
        temperature: what similarities are divided by.
    """
    valid = distinguishing(positive, compared)
    logits = similarity / temperature
    # a row without anything to compare with would be log 0: give it something finite and drop it
    partition = logits.masked_fill(~(compared | ~valid.unsqueeze(-1)), -torch.inf).logsumexp(-1, keepdim=True)
    surprise = (partition - logits).masked_fill(~positive, 0)  # -log of the softmax, never below 0
    return (surprise.sum(-1) / positive.sum(-1).clamp(min=1)).masked_fill(~valid, 0)


def distinguishing(positive: Tensor, compared: Tensor) -> Tensor:
    """Return which rows have a positive and something to tell it from, be it another positive."""
    return positive.any(-1) & (compared.sum(-1) > 1)


@register(
    "supervised_contrastive",
    inputs=EMBEDDINGS,
    aliases=("supcon",),
    laws=(NON_NEGATIVE, SCALE_INVARIANT),
    suits="pre-training on labels, and embeddings of classes with many members per batch; all positives pull at once",
    source="P. Khosla et al., Supervised Contrastive Learning, 2020, arXiv:2004.11362, eq. 2 (L_out)",
)
class SupervisedContrastiveLoss(Loss):
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

    def items(self, output: LabelledBatch, target: Tensor) -> Tensor:
        similarity = cosine_similarity(output.anchors, output.others)
        return supervised_contrastive(similarity, *comparisons(output), temperature=self.temperature)

    def mass(self, items: Tensor, output: LabelledBatch, target: Tensor) -> Tensor:
        return distinguishing(*comparisons(output)).to(items.dtype)

    def summed(self, output: LabelledBatch, target: Tensor, weight: Tensor | None) -> Total:
        if not tileable(output, weight):
            return super().summed(output, target, weight)
        by_pairs = not output.has_reference and 1 / self.temperature <= MODEST
        sums, counts = over_batch(
            tiled_supervised_contrastive_by_pairs if by_pairs else tiled_supervised_contrastive,
            lambda batch: super(SupervisedContrastiveLoss, self).summed(batch, target, weight).sum.unsqueeze(0),
            output,
            "similarity",
            weight,
            scale=1 / self.temperature,
            upper=by_pairs,
        )
        return Total(sums[0], counts[0])

    def observed(self, output: LabelledBatch, target: Tensor) -> Readings:
        counted = torch.as_tensor(self.summed(output, target, None).weight)
        return readings_of(self, output, target, active=share(counted, len(output.anchors)), distance="cosine", gap=0.0)


def comparisons(batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Return which others are positives of each anchor, and which it is compared with, both ``(N, M)``."""
    positive, negative = batch.occurrences()
    return positive > 0, positive + negative > 0
