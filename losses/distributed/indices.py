"""A miner's indices into the rows of all ranks: what is said of the anchors of this one."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from losses.core.checks import shown
from losses.core.errors import InputError
from losses.distributed.agreement import listed, of_all_ranks

if TYPE_CHECKING:
    from losses.core.collectives import Group

Indices = tuple[Tensor, ...]


def of_own_anchors(indices: Indices, start: int, size: int, rows: int, others: int, group: Group) -> Indices:
    """Return what a miner says of the anchors of this rank, which are numbered from 0 on here.

    Args:
        indices: (anchor, positive, negative) or (anchor, positive, anchor, negative).
        start, size: of the anchors of this rank among all.
        rows: of all ranks.
        others: that they are compared with.
        group: of processes.

    Raises:
        InputError: on all ranks, where indices point outside the rows of one, or ranks speak of anchors of others, but
            not all of the same.
    """
    refusal, foreign, content, length = None, 0, 0, 0
    try:
        length = require_inside(indices, rows, others)
        foreign = sum(int(((anchor < start) | (anchor >= start + size)).sum()) for anchor in anchors_of(indices))
        content = zlib.crc32(b"".join(part.cpu().numpy().tobytes() for part in indices))
    except Exception as error:
        refusal = error
    device = next((part.device for part in indices if isinstance(part, Tensor)), torch.device("cpu"))
    table = of_all_ranks([int(refusal is not None), length, foreign, content], device, group, refusal)
    if len({row[1] for row in table}) > 1:
        raise InputError("indices: some ranks pass three tensors and some four; use the same miner on all of them")
    speaking = [rank for rank, row in enumerate(table) if row[2]]
    if speaking and len({row[3] for row in table}) > 1:
        raise InputError(
            f"indices: rank {listed(speaking)} names anchors of other ranks, and not all ranks pass the same; pass on "
            "each rank what is said of its own anchors, or on all ranks the same"
        )
    if length == 3:
        return own(indices, start, size)
    return (*own(indices[:2], start, size), *own(indices[2:], start, size))


def gathered_indices(indices: Indices, start: int, size: int, rows: int, others: int, group: Group) -> Indices:
    """Return what the miners of all ranks say, of the anchors of all of them."""
    parts = of_own_anchors(indices, start, size, rows, others, group)
    numbered = [part + start if place in anchor_places(len(parts)) else part for place, part in enumerate(parts)]
    said: list[list[Tensor]] = [[] for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(said, [part.cpu() for part in numbered], group=group)
    return tuple(torch.cat(column).to(indices[0].device) for column in zip(*said, strict=True))


def own(indices: Indices, start: int, size: int) -> Indices:
    """Return the entries whose anchor, the first of them, is of this rank."""
    anchor, *others = indices
    kept = (anchor >= start) & (anchor < start + size)
    return (anchor[kept] - start, *(other[kept] for other in others))


def anchors_of(indices: Indices) -> Indices:
    """Return the tensors that name anchors."""
    return tuple(indices[place] for place in anchor_places(len(indices)))


def anchor_places(length: int) -> tuple[int, ...]:
    return (0,) if length == 3 else (0, 2)


def require_inside(indices: Indices, rows: int, others: int) -> int:
    """Return how many tensors there are, or raise unless they point into the rows of all ranks."""
    if not isinstance(indices, tuple | list) or len(indices) not in (3, 4):
        raise InputError(
            "indices must be a tuple (anchor, positive, negative) or (anchor, positive, anchor, negative) as miners "
            f"return it, got {shown(indices)}"
        )
    for place, part in enumerate(indices):
        size = rows if place in anchor_places(len(indices)) else others
        if part.numel() and not 0 <= int(part.min()) <= int(part.max()) < size:
            raise InputError(
                f"indices run from {int(part.min())} to {int(part.max())}, all ranks together hold {size} rows; number "
                "them one rank after the other"
            )
    return len(indices)
