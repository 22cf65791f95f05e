"""Memory that is written again and again: to ask the system for more takes longer than to compute what goes there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

MOST = 1 << 17
"""Elements that a vector may have to be kept."""
MANY_BYTES = 1 << 25
"""From here on memory comes from the system page by page, each time, and goes back to it."""
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


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


def gradient_like(tensor: Tensor) -> Tensor:
    """Return memory for the gradient of a contiguous tensor, which holds anything.

    Of ten million numbers to touch the pages for the first time takes longer than to compute what goes there: NumPy has
    the system make them large, where that can be, and torch does not.
    """
    many = tensor.is_cpu and tensor.dtype in NUMPY and tensor.numel() * tensor.element_size() >= MANY_BYTES
    if not many:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return torch.from_numpy(np.empty(tensor.shape, NUMPY[tensor.dtype]))
