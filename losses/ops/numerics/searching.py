"""Searching in sorted rows, also where a program is exported."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_exporting


def searchsorted(rows: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    """Return how many entries of each sorted row ``(..., N)`` lie below the values of that row ``(..., M)``, or at or
    below them where ``right``, as ``(..., M)``.

    ``torch.searchsorted``, which ONNX does not have. There rows and values are sorted together, stably: of equal ones
    those come first that do not count.
    """
    if not is_exporting():
        return torch.searchsorted(rows, values, right=right)
    order = torch.cat([rows, values] if right else [values, rows], -1).sort(dim=-1, stable=True).indices
    is_row = (order < rows.shape[-1] if right else order >= values.shape[-1]).long()
    counts = torch.zeros_like(order).scatter(-1, order, is_row.cumsum(-1))
    return counts[..., rows.shape[-1] :] if right else counts[..., : values.shape[-1]]
