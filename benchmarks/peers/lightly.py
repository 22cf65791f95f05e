"""How lightly 1.6 gathers over processes: ``lightly.utils.dist.gather``, which solo-learn has too, in our words."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class GatheredAlike(torch.autograd.Function):
    """``all_gather``; on the way back the gradients of all ranks are added, and each takes the part of its own rows.

    All ranks must have as many rows.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, ...]:
        everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, rows)
        return tuple(everyone)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        together = torch.stack(gradients)
        dist.all_reduce(together)
        return together[dist.get_rank()]


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, one rank after the other."""
    parts: tuple[Tensor, ...] = GatheredAlike.apply(rows)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
    return torch.cat(parts)
