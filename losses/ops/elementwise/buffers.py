"""Memory that is written again and again: to ask the system for more takes longer than to compute what goes there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

MOST = 1 << 17
"""Elements that a vector may have to be kept."""


class Kept(threading.local):
    """Vectors on the CPU that no call holds now, of one thread."""

    def __init__(self) -> None:
        self.vectors: dict[torch.dtype, list[Tensor]] = {}


_kept = Kept()


@contextmanager
def buffers(dtype: torch.dtype, length: int, count: int) -> Iterator[Sequence[Tensor]]:
    """Lend vectors on the CPU, which hold anything; a call in the middle of another is lent others.

    >>> with buffers(torch.float32, 3, 2) as (first, second):
    ...     first.numel() >= 3
    True
    """
    kept = _kept.vectors.pop(dtype, [])
    if len(kept) < count or kept[0].numel() < length:
        with torch.inference_mode(False):  # what is made within can be written to within alone
            kept = [torch.empty(length, dtype=dtype, device="cpu") for _ in range(count)]
    try:
        yield kept[:count]
    finally:
        if kept[0].numel() <= MOST:
            _kept.vectors[dtype] = kept
