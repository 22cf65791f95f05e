"""Losses of embeddings: pairs, triplets, rows of all comparisons, and statistics of a whole batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    MATCHES,
    NON_NEGATIVE,
    PAIRS,
    TRIPLETS,
    AnchorLoss,
    AnchorRows,
    EmbeddingLoss,
    LabelledBatch,
    Loss,
    NonNegative,
    Pairs,
    Positive,
    Probability,
    Reduction,
    Triplets,
    checked,
    has_both,
)
from losses.ops.distances import rowwise_cosine, rowwise_distance, unit
from losses.ops.numerics.log_space import masked_log_sum
from tests.correct.declaring import Plain, correct


def cosine_embedding(pairs: Pairs, same: Tensor) -> Tensor:
    cosine = F.cosine_similarity(*pairs, eps=1e-30)  # torch's own loss adds 1e-12 to squared norms
    return torch.where(same > 0, 1 - cosine, (cosine - 0.2).clamp(min=0)).mean()


@correct(PAIRS, NON_NEGATIVE, oracle=cosine_embedding)
class CosineEmbedding(Loss):
    """One minus the cosine of what is the same, the cosine beyond a margin of what is not."""

    @checked
    def __init__(self, *, margin: Probability = 0.2, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def items(self, pairs: Pairs, same: Tensor) -> Tensor:
        cosine = rowwise_cosine(*pairs)
        return torch.where(same > 0, 1 - cosine, (cosine - self.margin).relu())


@correct(PAIRS, oracle=lambda o, t: F.hinge_embedding_loss((o[0] - o[1]).norm(dim=1), torch.where(t > 0, 1, -1)))
class HingeEmbedding(Plain):
    """Distance of what is the same, hinge of one of what is not."""

    def items(self, pairs: Pairs, same: Tensor) -> Tensor:
        distance = rowwise_distance(*pairs, "euclidean")
        return torch.where(same > 0, distance, (1 - distance).relu())


def cosine_triplets(triplets: Triplets, target: None) -> Tensor:
    return F.triplet_margin_with_distance_loss(
        *triplets, distance_function=lambda a, b: 1 - F.cosine_similarity(a, b), margin=0.3
    )


@correct(TRIPLETS, NON_NEGATIVE, oracle=cosine_triplets)
class CosineRanking(Loss):
    """Margin between two cosine distances."""

    @checked
    def __init__(self, *, margin: Positive = 0.3, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def items(self, triplets: Triplets, target: None) -> Tensor:
        near, far = (rowwise_cosine(triplets.anchor, other) for other in triplets[1:])
        return (far - near + self.margin).relu()


@correct(TRIPLETS, NON_NEGATIVE)
class Angular(Plain):
    """Angle at the negative, over squared distances."""

    def items(self, triplets: Triplets, target: None) -> Tensor:
        anchor, positive, negative = triplets
        near = rowwise_distance(anchor, positive, "squared_euclidean")
        far = rowwise_distance(negative, (anchor + positive) / 2, "squared_euclidean")
        return F.softplus(near - 4 * far)


def n_pair_by_hand(embeddings: Tensor, labels: Tensor) -> Tensor:
    similar = F.normalize(embeddings, dim=1) @ F.normalize(embeddings, dim=1).T * 4
    values = []
    for i in range(len(labels)):
        near = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        far = [j for j in range(len(labels)) if labels[j] != labels[i]]
        if near and far:
            exceeding = similar[i, far].unsqueeze(0) - similar[i, near].unsqueeze(1)
            values.append((1 + exceeding.exp().sum()).log())
    return torch.stack(values).mean() if values else embeddings.sum() * 0


@correct(EMBEDDINGS, NON_NEGATIVE, oracle=n_pair_by_hand)
class NPair(AnchorLoss):
    """Logarithm of how much all negatives exceed all positives."""

    @checked
    def __init__(self, *, scale: Positive = 4.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.scale = scale
        self.reduction = reduction

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        near = masked_log_sum(-self.scale * rows.positives, rows.is_positive)
        far = masked_log_sum(self.scale * rows.negatives, rows.is_negative)
        return F.softplus(near + far).masked_fill(~has_both(rows.is_positive, rows.is_negative), 0)

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor:
        return has_both(is_positive, is_negative)


@correct(EMBEDDINGS, NON_NEGATIVE)
class SoftNearestNeighbour(AnchorLoss):
    """Probability that a neighbour, drawn by its distance, is of another class."""

    @checked
    def __init__(self, *, temperature: Positive = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction = reduction

    @property
    def measure(self) -> str:
        return "squared_euclidean"

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        near = masked_log_sum(-rows.positives / self.temperature, rows.is_positive)
        far = masked_log_sum(-rows.negatives / self.temperature, rows.is_negative)
        return F.softplus(far - near).masked_fill(~has_both(rows.is_positive, rows.is_negative), 0)

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor:
        return has_both(is_positive, is_negative)


def deviance_by_hand(output: Tensor | Pairs, target: Tensor) -> Tensor:
    if isinstance(output, Pairs):
        same, value = target > 0, F.cosine_similarity(*output)
    else:
        first, second = torch.triu_indices(len(target), len(target), 1)
        same, value = target[first] == target[second], F.cosine_similarity(output[first], output[second])
    costs = torch.where(same, (-2 * (value - 0.5)).exp(), (4 * (value - 0.5)).exp()).log1p()
    return costs.mean() if len(costs) else output.sum() * 0


@correct([EMBEDDINGS, PAIRS], NON_NEGATIVE, oracle=deviance_by_hand)
class BinomialDeviance(EmbeddingLoss):
    """Logistic loss of every pair's cosine similarity, one item per pair."""

    each_pair_once = True

    @checked
    def __init__(self, *, threshold: NonNegative = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.threshold = threshold
        self.reduction = reduction

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        pairs = self.pairs(output, target)
        beyond = pairs.values - self.threshold
        return F.softplus(torch.where(pairs.same, -2 * beyond, 4 * beyond))

    def item_weights(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return self.pair_weights(weight, output)


def standardized(rows: Tensor, floor: float) -> Tensor:
    """Return columns with mean 0 and variance 1, or nearly 0 where they hardly vary."""
    centred = rows - rows.sum(0) / max(1, len(rows))
    return centred / (centred.square().sum(0) / max(1, len(rows)) + floor).sqrt()


def barlow_by_hand(pairs: Pairs, target: None) -> Tensor:
    first, second = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 0.01).sqrt() for x in pairs)
    cross = torch.einsum("ni,nj->ij", first, second) / len(first)
    weights = torch.full_like(cross, 0.05).fill_diagonal_(1)
    return (weights * (cross - torch.eye(len(cross), dtype=cross.dtype)) ** 2).sum()


@correct(MATCHES, NON_NEGATIVE, oracle=barlow_by_hand)
class BarlowTwins(Loss):
    """Cross-correlation of two views against the identity: one item for the batch."""

    @checked
    def __init__(self, *, redundancy: Positive = 0.05, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.redundancy = redundancy
        self.reduction = reduction

    def items(self, pairs: Pairs, target: None) -> Tensor:
        first, second = (standardized(part, 0.01) for part in pairs)
        cross = first.mT @ second / max(1, len(first))
        diagonal = cross.diagonal()
        apart = cross.square().sum() - diagonal.square().sum()
        return ((1 - diagonal).square().sum() + self.redundancy * apart).reshape(1)

    def denominators(self, items: Tensor, pairs: Pairs, target: None) -> Tensor:
        return torch.full_like(items, min(1, len(pairs.first)))


@correct(MATCHES, NON_NEGATIVE)
class VarianceInvarianceCovariance(Plain):
    """VICReg: views agree, columns vary and do not say the same; one item for the batch."""

    def items(self, pairs: Pairs, target: None) -> Tensor:
        number = max(2, len(pairs.first))
        together = (pairs.first - pairs.second).square().sum() / number
        for part in pairs:
            centred = part - part.sum(0) / max(1, len(part))
            covariance = centred.mT @ centred / (number - 1)
            variances = covariance.diagonal()
            together = together + (1 - (variances + 1e-2).sqrt()).relu().mean()
            together = together + (covariance.square().sum() - variances.square().sum()) / len(covariance)
        return together.reshape(1)

    def denominators(self, items: Tensor, pairs: Pairs, target: None) -> Tensor:
        return torch.full_like(items, min(1, len(pairs.first)))


def uniformity_by_hand(pairs: Pairs, target: None) -> Tensor:
    first, second = (F.normalize(part, dim=1) for part in pairs)
    spreading = (torch.cdist(first, first, compute_mode="donot_use_mm_for_euclid_dist") ** 2 * -2).exp()
    return ((first - second) ** 2).sum(1).mean() + spreading.mean().log()


@correct(MATCHES, oracle=uniformity_by_hand)
class AlignmentUniformity(Plain):
    """Views are near each other, and everything fills the sphere; one item for the batch."""

    def items(self, pairs: Pairs, target: None) -> Tensor:
        first, second = (unit(part).to(part.dtype) for part in pairs)
        number = max(1, len(first))
        alignment = (first - second).square().sum() / number
        closeness = (4 * first @ first.mT - 4).exp().sum() / number**2
        uniformity = closeness.clamp(min=1e-30).log()
        return (alignment + uniformity).reshape(1)

    def denominators(self, items: Tensor, pairs: Pairs, target: None) -> Tensor:
        return torch.full_like(items, min(1, len(pairs.first)))


def nt_xent_by_hand(pairs: Pairs, target: None) -> Tensor:
    rows = F.normalize(torch.cat(list(pairs)), dim=1)
    similar = (rows @ rows.T / 0.5).masked_fill(torch.eye(len(rows), dtype=torch.bool), -math.inf)
    half = len(rows) // 2
    return F.cross_entropy(similar, torch.cat([torch.arange(half) + half, torch.arange(half)]))


@correct(MATCHES, NON_NEGATIVE, oracle=nt_xent_by_hand)
class TwoViews(Loss):
    """NT-Xent of both views against all others; an item is a pair."""

    @checked
    def __init__(self, *, temperature: Positive = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction = reduction

    def items(self, pairs: Pairs, target: None) -> Tensor:
        rows = torch.cat([unit(part).to(part.dtype) for part in pairs])
        own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        similar = (rows @ rows.mT / self.temperature).masked_fill(own, -1e4)
        half = len(pairs.first)
        partner = torch.arange(2 * half, device=rows.device).roll(half)
        return F.cross_entropy(similar, partner, reduction="none").reshape(2, half).mean(0)
