"""Multi-similarity loss: pairs weighted by how they compare with the other pairs of their anchor."""

from functools import partial

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    SCALE_INVARIANT,
    AnchorLoss,
    AnchorRows,
    Fits,
    LabelledBatch,
    NonNegative,
    Number,
    Positive,
    Reduction,
    Tiling,
    checked,
    register,
)
from losses.ops.dense.arrays import log_sums
from losses.ops.dense.batch import Dense
from losses.ops.dense.log_sums import dense_multi_similarity
from losses.ops.numerics.log_one_plus_sum import log_one_plus_sum
from losses.ops.pairs.log_sums import MODEST
from losses.ops.pairs.multi_similarity import multi_similarity_by_pairs, tiled_multi_similarity
from losses.ops.pairs.sums_of_parts import SharedSums


def multi_similarity(
    positives: Tensor,
    negatives: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    mining_epsilon: float | None = None,
) -> Tensor:
    """Return the loss of every anchor from its similarities to positives ``(N, P)`` and negatives ``(N, M)``; see
    :class:`MultiSimilarityLoss`."""
    if mining_epsilon is not None:
        positives, negatives = mined(positives, negatives, mining_epsilon)
    of_positives = log_one_plus_sum(positives, -alpha, base) / alpha
    return of_positives + log_one_plus_sum(negatives, beta, base) / beta


def mined(positives: Tensor, negatives: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the positives less similar than the most similar negative and the negatives more similar than the least
    similar positive, each within epsilon; the others are infinitely good."""
    least, most = positives.amin(1, keepdim=True), negatives.amax(1, keepdim=True)
    return (
        positives.masked_fill(positives - epsilon >= most, torch.inf),
        negatives.masked_fill(negatives + epsilon <= least, -torch.inf),
    )


@register(
    "multi_similarity",
    inputs=EMBEDDINGS,
    aliases=("ms",),
    laws=(NON_NEGATIVE, SCALE_INVARIANT),
    suits="retrieval of many classes; hard pairs of an anchor weigh more, without triplets",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns similarities, which new classes have too; hard pairs of an anchor weigh more",
    ),
    source="X. Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, 2019, CVPR, "
    "arXiv:1904.06627, eq. 16; mining_epsilon: eq. 11 and 12",
)
class MultiSimilarityLoss(AnchorLoss):
    r"""An anchor's positives above a base similarity and its negatives below it, the hardest of each first.

    .. math::
        \ell_i = \frac1\alpha \log\Big(1 + \sum_{p \in P(i)} e^{-\alpha (s_{ip} - \lambda)}\Big)
               + \frac1\beta \log\Big(1 + \sum_{n \in N(i)} e^{\beta (s_{in} - \lambda)}\Big)

    :math:`s` are cosine similarities, :math:`P(i)` are the positives of anchor :math:`i`, :math:`N(i)` its negatives.
    This is the value of ``MultiSimilarityLoss`` in pytorch-metric-learning 2.9, which however gives 0 to a batch that
    holds no more than one positive and one negative pair.

    Args:
        alpha: :math:`\alpha`, how sharply the least similar positives dominate.
        beta: :math:`\beta`, how sharply the most similar negatives dominate.
        base: :math:`\lambda`, similarity that positives should exceed and negatives stay below.
        mining_epsilon: ``None`` takes all pairs. A number :math:`\epsilon` takes negatives with
            :math:`s_{in} > \min_p s_{ip} - \epsilon` and positives with :math:`s_{ip} < \max_n s_{in} + \epsilon`; the
            choice itself has no gradient.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one anchor, also one without any pair, which costs 0.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``; items ``(N,)``. ``indices=`` takes the tuple of a
        pytorch-metric-learning miner, each pair once; ``reference=(embeddings, labels)`` another set to compare with.
        ``weight`` is one per anchor.

        Parts add up, by ``normalizer=`` or as totals, where they are anchors against one and the same reference; halves
        of a labelled batch do not.

    Units:
        Similarities, ``base`` and ``mining_epsilon`` are pure numbers, and so is the loss.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> embeddings = tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = MultiSimilarityLoss(alpha=1.0, beta=1.0, base=1.0, reduction="none")
    >>> loss(embeddings, tensor([0, 0, 1]))  # log(1 + exp(0)) + log(1 + exp(-1)), then log(1 + 2 exp(-1))
    tensor([1.0064, 1.0064, 0.5514])
    """

    @checked
    def __init__(
        self,
        *,
        alpha: Positive = 2.0,
        beta: Positive = 50.0,
        base: Number = 0.5,
        mining_epsilon: NonNegative | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.mining_epsilon = mining_epsilon
        self.reduction = reduction

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        return multi_similarity(
            rows.positives,
            rows.negatives,
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            mining_epsilon=self.mining_epsilon,
        )

    def dense(self, batch: LabelledBatch) -> Dense:
        function = partial(
            dense_multi_similarity,
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            mining_epsilon=self.mining_epsilon,
        )
        in_arrays = partial(log_sums.multi_similarity, alpha=self.alpha, beta=self.beta, base=self.base)
        return Dense(function, in_arrays=in_arrays if self.mining_epsilon is None else None)

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        if batch.has_reference or not self._is_modest:
            return super().tiling(batch)
        sums = partial(tiled_multi_similarity, alpha=self.alpha, beta=self.beta, base=self.base)
        return Tiling(sums, scale=self.beta, upper=True)

    def shared_sums(self) -> SharedSums | None:
        if not self._is_modest:
            return None
        loss = partial(multi_similarity_by_pairs, alpha=self.alpha, beta=self.beta, base=self.base)
        return SharedSums(loss, self.beta)

    @property
    def _is_modest(self) -> bool:
        """Whether all pairs count, and their exponentials can be summed as they are."""
        return self.mining_epsilon is None and max(self.alpha, self.beta) * max(1, abs(self.base)) <= MODEST
