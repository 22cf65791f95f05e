"""Memories of past embeddings, ours and pytorch-metric-learning's, called as with a momentum encoder.

Anchors are compared with keys of the present batch and with what is remembered, and get the gradient: that is
``reference=`` of ours and ``enqueue_mask`` there, and both are one loss if theirs has room for a batch more. A pool
holds one batch more than ours remembers: in each call another of its batches is the keys, and the others are
remembered. So every call compares with the whole pool, however many came before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import losses
from benchmarks.harness.equality import Value
from losses.adapters.pytorch_metric_learning import losses as pml

Fill = Callable[[Tensor, Tensor], None]


class InTurn:
    """A memory whose keys are one batch of the pool after the other; each pool gets a memory of its own.

    Args:
        build: returns what fills a memory of a capacity, and what calls it with anchors and keys, each with its labels.
    """

    def __init__(self, build: Callable[[int, Tensor], tuple[Fill, Value]]) -> None:
        self.build = build
        self.pool: Tensor | None = None

    def __call__(self, anchors: Tensor, labels: Tensor, pool: Tensor, pool_labels: Tensor) -> Tensor:
        size = len(anchors)
        if pool is not self.pool:
            fill, self.compare = self.build(len(pool) - size, anchors)
            fill(pool[:-size], pool_labels[:-size])
            self.pool, self.start = pool, len(pool) - size
        keys = slice(self.start, self.start + size)
        self.start = keys.stop % len(pool)
        return self.compare(anchors, labels, pool[keys], pool_labels[keys])


def ours(nested: dict[str, Any], capacity: int, anchors: Tensor) -> tuple[Fill, Value]:
    """Our memory bank around a loss."""
    bank = losses.create("memory_bank", loss=nested, capacity=capacity).to(anchors.device)

    def fill(embeddings: Tensor, labels: Tensor) -> None:
        bank.remember((embeddings, labels), (embeddings, labels))

    def value(anchors: Tensor, labels: Tensor, *keys: Tensor) -> Tensor:
        return bank(anchors, labels, reference=keys)

    return fill, value


def theirs(make: Callable[[], Any], capacity: int, anchors: Tensor) -> tuple[Fill, Value]:
    """``CrossBatchMemory`` around a loss."""
    size, dimensions = anchors.shape
    memory = pml.CrossBatchMemory(make(), embedding_size=dimensions, memory_size=capacity + size)
    is_key = torch.arange(2 * size, device=anchors.device) >= size

    def fill(embeddings: Tensor, labels: Tensor) -> None:
        memory.to(embeddings.device, embeddings.dtype)
        memory.add_to_memory(embeddings, labels, len(labels))

    def value(anchors: Tensor, labels: Tensor, keys: Tensor, labels_of_keys: Tensor) -> Tensor:
        both = torch.cat([anchors, keys]), torch.cat([labels, labels_of_keys])
        result: Tensor = memory(*both, enqueue_mask=is_key)
        return result

    return fill, value
