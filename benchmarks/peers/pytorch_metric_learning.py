"""The losses of pytorch-metric-learning, with the parameters that make them ours.

Each function returns a value to differentiate: called with embeddings and labels, or with two sides of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.harness.equality import Value
from losses.adapters.pytorch_metric_learning import distances, losses, miners, reducers


def triplet(margin: float = 0.2, *, smooth: bool = False) -> Value:
    """All triplets as three lists of indices. Smooth is softplus(d_ap - d_an + margin), of which we average all."""
    reducer = reducers.MeanReducer() if smooth else reducers.AvgNonZeroReducer()
    return losses.TripletMarginLoss(margin=margin, smooth_loss=smooth, distance=euclidean(), reducer=reducer)


def hard_triplet(margin: float = 0.2) -> Value:
    """The farthest positive and the nearest negative of each anchor, mined first."""
    loss, miner = triplet(margin), miners.BatchHardMiner(distance=euclidean())
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def contrastive(margin: float) -> Value:
    """Every pair twice, once from each end, which leaves both of its means as they are."""
    return losses.ContrastiveLoss(pos_margin=0, neg_margin=margin, distance=euclidean())


def circle() -> Value:
    return losses.CircleLoss(m=0.4, gamma=80)


def multi_similarity() -> Value:
    return losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)


def mined_multi_similarity(epsilon: float = 0.1) -> Value:
    """The pairs mined first that are harder than the hardest of the other kind, to within epsilon."""
    loss, miner = multi_similarity(), miners.MultiSimilarityMiner(epsilon=epsilon)
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def supervised_contrastive() -> Value:
    return losses.SupConLoss(temperature=0.1)


def labelled_info_nce() -> Value:
    return losses.NTXentLoss(temperature=0.1)


def all_triplets(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Every triplet nearer to the hinge than the margin, as a miner lists them."""
    return miners.TripletMarginMiner(margin=0.2, type_of_triplets="all", distance=euclidean())(embeddings, labels)


def hard_pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Positive and negative pairs, as a miner lists them: those harder than the hardest of the other kind, nearly."""
    return miners.MultiSimilarityMiner(epsilon=0.1)(embeddings, labels)


def info_nce() -> Value:
    """Every positive pair against every negative pair of the batch, most of them masked."""
    loss = losses.NTXentLoss(temperature=0.1)

    def value(first: Tensor, second: Tensor) -> Tensor:
        labels = torch.arange(len(first), device=first.device).repeat(2)
        return loss(torch.cat([first, second]), labels)

    return value


def euclidean() -> distances.LpDistance:
    return distances.LpDistance(normalize_embeddings=False)
