"""What ranks have to agree on before they exchange a batch: found out first, so that all of them raise and none waits.

A rank that raises where the others go on to a collective leaves them waiting for it. So each says in a few numbers what
it has, also that it refuses its own batch, and all of them see the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from losses.core.errors import InputError

if TYPE_CHECKING:
    from losses.core.collectives import Group

NONE = -1  # in place of what a rank does not have


ROLES = ("embeddings", "second", "labels", "weight", "reference embeddings", "reference labels", "sum")
FIELDS = ("rows", "shape of a row", "dtype", "requires_grad")
FIXES = {
    "shape of a row": "let the same network make it on all ranks",
    "dtype": "run all ranks under the same autocast",
    "requires_grad": "call the loss on all ranks with a gradient, or on all without",
}


class Sizes:
    """How many rows every rank has of what is gathered."""

    def __init__(self, of_roles: dict[str, list[int]], rank: int) -> None:
        self._of_roles, self.rank = of_roles, rank

    def of(self, role: str) -> list[int]:
        """Return how many rows every rank has."""
        return self._of_roles[role]

    def start(self, role: str) -> int:
        """Return at which of all rows those of this rank begin."""
        return sum(self._of_roles[role][: self.rank])


def agreed(
    inputs: Mapping[str, Tensor | None],
    configuration: str,
    device: torch.device | str,
    group: Group,
    refusal: Exception | None = None,
) -> Sizes:
    """Return how many rows all ranks have, once it is clear that all of them go on.

    Args:
        inputs: what is going to be gathered, by its role; ``None`` or nothing where a rank has none.
        configuration: of what is computed, which is the same on all ranks.
        device: of the batch, where the numbers travel.
        group: of processes.
        refusal: what this rank has to say against its own batch.

    Raises:
        InputError: ranks differ, or another one refuses its batch.
        RuntimeError: a rank does not answer.
    """
    own = [int(refusal is not None), hashed(configuration)]
    for role in ROLES:
        own += described(inputs.get(role))
    table = of_all_ranks(own, device, group, refusal)
    differing = [rank for rank, row in enumerate(table) if row[1] != own[1]]
    if differing:
        raise InputError(
            f"rank {listed(differing)} computes something else than rank {dist.get_rank(group)}, which has "
            f"{configuration}; build the same loss and pass it the same kind of output on all ranks"
        )
    sizes = {}
    for number, role in enumerate(ROLES):
        start = 2 + number * len(FIELDS)
        columns = [row[start : start + len(FIELDS)] for row in table]
        require_alike(role, columns)
        sizes[role] = [max(column[0], 0) for column in columns]
    return Sizes(sizes, dist.get_rank(group))


def of_all_ranks(
    numbers: list[int], device: torch.device | str, group: Group, refusal: Exception | None = None
) -> list[list[int]]:
    """Return the numbers of all ranks, of which the first says whether it refuses to go on.

    Raises:
        InputError: another rank refuses.
        RuntimeError: a rank does not answer.
    """
    everyone = [torch.zeros(len(numbers), dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
    try:
        dist.all_gather(everyone, torch.tensor(numbers, dtype=torch.int64, device=device), group=group)
    except RuntimeError as error:
        raise RuntimeError(
            f"rank {dist.get_rank(group)} got no answer from all ranks of its group: one of them has stopped, raised, "
            f"or does not call this loss as often as the others ({error})"
        ) from error
    if refusal is not None:
        raise refusal
    table: list[list[int]] = torch.stack(everyone).tolist()
    refusing = [rank for rank, row in enumerate(table) if row[0]]
    if refusing:
        raise InputError(
            f"rank {listed(refusing)} of the group refused its batch and says why; no rank goes on without it"
        )
    return table


def described(rows: Tensor | None) -> list[int]:
    """Return what ranks compare of an input."""
    if rows is None:
        return [NONE] * len(FIELDS)
    wanted = torch.is_grad_enabled() and rows.requires_grad
    return [len(rows), hashed(str(tuple(rows.shape[1:]))), hashed(str(rows.dtype)), int(wanted)]


def require_alike(role: str, columns: list[list[int]]) -> None:
    """Raise unless all ranks have an input, or none, and it is of one kind."""
    lacking = [rank for rank, column in enumerate(columns) if column[0] == NONE]
    having = [rank for rank, column in enumerate(columns) if column[0] != NONE]
    if lacking and having:
        raise InputError(
            f"{role}: rank {listed(having)} has it and rank {listed(lacking)} has not; pass it on all ranks or on none"
        )
    for number, what in enumerate(FIELDS[1:], start=1):
        values = [column[number] for column in columns]
        alike = [[rank for rank, value in enumerate(values) if value == one] for one in dict.fromkeys(values)]
        if len(alike) > 1:
            different = " and rank ".join(map(listed, alike))
            raise InputError(f"{role}: the {what} differs between rank {different}; {FIXES[what]}")


def listed(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))


def hashed(text: str) -> int:
    """Return a number for a text, the same in every process."""
    return zlib.crc32(text.encode())
