"""What lies so near to a hinge that rounding decides whether it is active: there ours and a peer may differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.plain_torch import sides


def of_labels(count: Callable[..., tuple[int, int, int]], *batch: Any, **options: float) -> tuple[int, int, int]:
    """Return what ``count`` does of a batch of embeddings and labels; what a miner said of them is left out."""
    return count(*batch[:2], **options)


@torch.no_grad()
def triplets(embeddings: Tensor, labels: Tensor, *, within: float, margin: float = 0.2) -> tuple[int, int, int]:
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
def pairs(embeddings: Tensor, labels: Tensor, *, within: float, margin: float) -> tuple[int, int, int]:
    """Return the same of pairs of two classes, each pair once."""
    excess = (margin - torch.cdist(embeddings, embeddings)).masked_fill(~sides(labels)[1], -torch.inf)
    close = excess.abs() <= within
    return int(close.sum(1).max()), int(close.sum()) // 2, int((excess > 0).sum()) // 2


@torch.no_grad()
def triplets_with(
    anchors: Tensor, labels: Tensor, pool: Tensor, pool_labels: Tensor, *, within: float, margin: float = 0.2
) -> tuple[int, int, int]:
    """Return the same of triplets of an anchor and two of a pool, which gets no gradient."""
    touching = near = active = 0
    for row, same in zip(torch.cdist(anchors, pool), labels.unsqueeze(1) == pool_labels, strict=True):
        excess = row[same].unsqueeze(1) - row[~same] + margin
        close = int((excess.abs() <= within).sum())
        touching, near, active = max(touching, close), near + close, active + int((excess > 0).sum())
    return touching, near, active


@torch.no_grad()
def pairs_with(
    anchors: Tensor, labels: Tensor, pool: Tensor, pool_labels: Tensor, *, within: float, margin: float
) -> tuple[int, int, int]:
    """Return the same of pairs of an anchor and another class of a pool, which gets no gradient."""
    excess = (margin - torch.cdist(anchors, pool)).masked_fill(labels.unsqueeze(1) == pool_labels, -torch.inf)
    close = excess.abs() <= within
    return int(close.sum(1).max()), int(close.sum()), int((excess > 0).sum())
