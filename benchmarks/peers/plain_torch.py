"""What one writes in plain torch, and the definitions as they stand in the papers.

Each function returns a value to differentiate: called with embeddings and labels, or with two sides of pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.equality import Value


def triplet_cube(margin: float = 0.2) -> Value:
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


def cdist() -> Value:
    """All distances and nothing else: what a loss of all distances cannot do without. Its backward gets a matrix of
    ones."""
    return lambda embeddings, _: torch.cdist(embeddings, embeddings)


def cosine_embedding(margin: float = 0.0) -> Value:
    """Each pair once, by its cosine."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        units = F.normalize(embeddings)
        cosines = units @ units.mT
        costs = torch.where(labels.unsqueeze(1) == labels, 1 - cosines, (cosines - margin).relu())
        return costs.triu(1).sum() / (len(labels) * (len(labels) - 1) / 2)

    return value


def contrastive(margin: float = 1.0) -> Value:
    """Half a square for every pair, over the upper triangle of all distances."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        between = torch.cdist(embeddings, embeddings)
        same = labels.unsqueeze(1) == labels
        items = torch.where(same, between, (margin - between).relu()).square() / 2
        count = len(labels)
        return items.triu(1).sum() / (count * (count - 1) / 2)

    return value


def info_nce_both(temperature: float = 0.1) -> Value:
    """SimCLR: each view against all other embeddings of both views."""

    def value(first: Tensor, second: Tensor) -> Tensor:
        embeddings = F.normalize(torch.cat([first, second]), dim=1)
        logits = embeddings @ embeddings.T / temperature
        count = len(logits)
        rows = torch.arange(count, device=logits.device)
        logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=logits.device), -torch.inf)
        return F.cross_entropy(logits, (rows + count // 2) % count)

    return value


def info_nce_second(temperature: float = 0.1) -> Value:
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
