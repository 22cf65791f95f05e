"""Searching in sorted rows, also where a program is exported."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_exporting


def searchsorted(rows: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    """Return how many entries of each sorted row ``(..., N)`` lie below the values of that row ``(..., M)``, or at or
    below them where ``right``, as ``(..., M)``.

    An exported program compares all with all, in memory of N M for each row: ONNX has no search, nor a stable sort.
    """
    if not is_exporting():
        return torch.searchsorted(rows, values, right=right)
    rows, values = rows.unsqueeze(-2), values.unsqueeze(-1)
    return (rows <= values if right else rows < values).sum(-1)
