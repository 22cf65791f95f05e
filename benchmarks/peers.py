"""What our metric losses are compared with: pytorch-metric-learning, and what one writes in plain torch.

Each function returns a value to differentiate: called with embeddings and labels, or with two sides of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor

Value = Callable[..., Tensor]


def pml_triplet(margin: float = 0.2, *, smooth: bool = False) -> Value:
    """All triplets as three lists of indices. Smooth is softplus(d_ap - d_an + margin), of which we average all."""
    reducer = reducers.MeanReducer() if smooth else reducers.AvgNonZeroReducer()
    return losses.TripletMarginLoss(margin=margin, smooth_loss=smooth, distance=euclidean(), reducer=reducer)


def pml_hard_triplet(margin: float = 0.2) -> Value:
    """The farthest positive and the nearest negative of each anchor, mined first."""
    loss, miner = pml_triplet(margin), miners.BatchHardMiner(distance=euclidean())
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def pml_contrastive(margin: float) -> Value:
    """Every pair twice, once from each end, which leaves both of its means as they are."""
    return losses.ContrastiveLoss(pos_margin=0, neg_margin=margin, distance=euclidean())


def pml_circle() -> Value:
    return losses.CircleLoss(m=0.4, gamma=80)


def pml_supervised_contrastive() -> Value:
    return losses.SupConLoss(temperature=0.1)


def pml_info_nce() -> Value:
    """Every positive pair against every negative pair of the batch, most of them masked."""
    loss = losses.NTXentLoss(temperature=0.1)

    def value(first: Tensor, second: Tensor) -> Tensor:
        labels = torch.arange(len(first), device=first.device).repeat(2)
        return loss(torch.cat([first, second]), labels)

    return value


def euclidean() -> distances.LpDistance:
    return distances.LpDistance(normalize_embeddings=False)


def cube_triplet(margin: float = 0.2) -> Value:
    """All triplets as one N x N x N tensor."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        between = torch.cdist(embeddings, embeddings)
        positive, negative = sides(labels)
        excess = (between.unsqueeze(2) - between.unsqueeze(1) + margin).relu()
        excess = excess * (positive.unsqueeze(2) & negative.unsqueeze(1))
        return excess.sum() / (excess > 0).sum()

    return value


def triplet_definition(margin: float = 0.2) -> Value:
    """The triplets of one anchor after the other, each forming only its own positives and negatives."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        between = torch.cdist(embeddings, embeddings)
        positive, negative = sides(labels)
        total, active = between.new_zeros(()), between.new_zeros(())
        for row, same, other in zip(between, positive, negative, strict=True):
            excess = (row[same].unsqueeze(1) - row[other] + margin).relu()
            total, active = total + excess.sum(), active + (excess > 0).sum()
        return total / active

    return value


@torch.no_grad()
def triplets_near_hinge(
    embeddings: Tensor, labels: Tensor, *, within: float, margin: float = 0.2
) -> tuple[int, int, int]:
    """Return how many triplets lie within so much of the hinge: of one embedding at most, and in all; and how many are
    active."""
    between = torch.cdist(embeddings, embeddings)
    touching = torch.zeros_like(labels)
    near = active = 0
    for anchor, (row, same, other) in enumerate(zip(between, *sides(labels), strict=True)):
        excess = row[same].unsqueeze(1) - row[other] + margin
        close = excess.abs() <= within
        touching[same] += close.sum(1)
        touching[other] += close.sum(0)
        touching[anchor] += close.sum()
        near, active = near + int(close.sum()), active + int((excess > 0).sum())
    return int(touching.max()), near, active


@torch.no_grad()
def pairs_near_hinge(embeddings: Tensor, labels: Tensor, *, within: float, margin: float) -> tuple[int, int, int]:
    """Return the same of pairs of two classes, each pair once."""
    excess = (margin - torch.cdist(embeddings, embeddings)).masked_fill(~sides(labels)[1], -torch.inf)
    close = excess.abs() <= within
    return int(close.sum(1).max()), int(close.sum()) // 2, int((excess > 0).sum()) // 2


def cdist() -> Value:
    """All distances and nothing else: what a loss of all distances cannot do without. Its backward gets a matrix of
    ones."""
    return lambda embeddings, _: torch.cdist(embeddings, embeddings)


def naive_contrastive(margin: float = 1.0) -> Value:
    """Half a square for every pair, over the upper triangle of all distances."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        between = torch.cdist(embeddings, embeddings)
        same = labels.unsqueeze(1) == labels
        items = torch.where(same, between, (margin - between).relu()).square() / 2
        count = len(labels)
        return items.triu(1).sum() / (count * (count - 1) / 2)

    return value


def naive_both(temperature: float = 0.1) -> Value:
    """SimCLR: each view against all other embeddings of both views."""

    def value(first: Tensor, second: Tensor) -> Tensor:
        embeddings = F.normalize(torch.cat([first, second]), dim=1)
        logits = embeddings @ embeddings.T / temperature
        count = len(logits)
        rows = torch.arange(count, device=logits.device)
        logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=logits.device), -torch.inf)
        return F.cross_entropy(logits, (rows + count // 2) % count)

    return value


def naive_second(temperature: float = 0.1) -> Value:
    """CLIP: each first against all seconds, and each second against all firsts."""

    def value(first: Tensor, second: Tensor) -> Tensor:
        logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
        rows = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2

    return value


def sides(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is of the same class, oneself excepted, and who of another."""
    same = labels.unsqueeze(1) == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
