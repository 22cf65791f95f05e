"""The log-softmax of rows, along the dimension that torch is fastest on."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.torch_private import may_read
from losses.ops.tiles.sizes import sizes

WIDE = 16  # classes from which a row fills the vectors that torch's softmax works in


def log_softmax(scores: Tensor, dim: int) -> Tensor:
    """Return ``scores.log_softmax(dim)``, the columns of its transpose where rows are many and narrow: those torch
    takes a vector at a time, rows that do not fill one a number at a time."""
    return scores.t().log_softmax(0).t() if is_narrow(scores, dim) else scores.log_softmax(dim)


def log_softmax_of_read(scores: Tensor) -> Tensor:
    """Return the log-softmax along the last dimension, likewise, of scores that :func:`may_read`."""
    return scores.t().log_softmax(0).t() if scores.ndim == 2 and are_narrow(scores) else scores.log_softmax(-1)


def log_softmax_product(scores: Tensor, dim: int, factors: Tensor) -> Tensor:
    """Return ``(scores.log_softmax(dim) * factors).sum()``, likewise."""
    if is_narrow(scores, dim):
        scores, factors, dim = scores.t(), factors.t(), 0
    return inner_product(scores.log_softmax(dim), factors)


def inner_product(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of all products of two tensors of one shape, in one operation."""
    if one.ndim == 1 == other.ndim:
        return torch.dot(one, other)
    return torch.dot(one.reshape(-1), other.reshape(-1))


def is_narrow(scores: Tensor, dim: int) -> bool:
    """Return whether scores are rows ``(N, C)``, many and narrow."""
    return scores.ndim == 2 and dim != 0 and may_read(scores) and are_narrow(scores)


def are_narrow(rows: Tensor) -> bool:
    """Return whether rows ``(N, C)`` are many and narrow."""
    return rows.shape[1] < WIDE and rows.numel() >= sizes().narrow_rows
