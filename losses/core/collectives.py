"""Rows of all ranks, and sums over all ranks, differentiable: what ``torch.distributed`` moves, and its way back.

DistributedDataParallel averages gradients over ranks. What flows back here is therefore the number of ranks times the
derivative of the sum over ranks: the average is then that of one process which holds the whole batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from losses.core.torch_private import stepped_over

if TYPE_CHECKING:
    Group: TypeAlias = dist.ProcessGroup | None

TOGETHER = 1 << 17
"""Bytes of a rank up to which its tensors travel as one message: of more than that, copying them into one costs more
than a message."""


@stepped_over
def in_a_group(group: Group = None) -> bool:
    """Return whether this process is one of several that work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


_warned = False


def warn_of_ranks_apart(name: str) -> None:
    """Say, once in a process, that a loss of several ranks is about to compare only the samples of each with one
    another."""
    global _warned
    if _warned or not torch.is_grad_enabled():
        return
    _warned = True
    warnings.warn(
        f"{name} compares the samples of rank {dist.get_rank()} with one another, and not with those of the other "
        f"{dist.get_world_size() - 1}: that is another loss than the one of a single process. Write "
        f"losses.distributed.GlobalBatch(losses.create({name!r}, ...)) for the batch of all ranks",
        stacklevel=5,  # the caller of the loss
    )


@contextmanager
def ranks_apart_are_meant() -> Iterator[None]:
    """Say nothing of it: the group of a loss is this process alone."""
    global _warned
    former, _warned = _warned, True
    try:
        yield
    finally:
        _warned = former


def gathered(
    parts: Sequence[Tensor], sizes: Sequence[int], group: Group = None, *, alike: bool = False
) -> list[Tensor]:
    """Return the rows of all ranks, one rank after the other; the gradient by them goes back to whoever owns them, and
    is added up there over all ranks.

    Args:
        parts: rows of this rank ``(N, ...)``, of several tensors that travel together.
        sizes: how many rows every rank has.
        group: of processes; ``None`` is all of them.
        alike: whether all ranks make the same of the rows of all. Then every rank knows that sum, and nothing has to go
            back, but where somebody differentiates the gradient.
    """
    return list(GatheredRows.apply(tuple(sizes), group, alike, *parts))  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped


def summed_rows(everyone: Tensor, sizes: Sequence[int], group: Group = None) -> Tensor:
    """Return the sum over ranks of what they have for the rows of this one; the gradient by it goes to all ranks. The
    way back of :func:`gathered`, whose arguments these are, but for the rows of all ranks ``(M, ...)``."""
    own: Tensor = ScatteredRows.apply(everyone, tuple(sizes), group)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
    return own


def sum_over_ranks(number: Tensor, group: Group = None) -> Tensor:
    """Return the sum over ranks of a tensor of one shape; what flows back is that of this rank's own part, times the
    number of ranks."""
    total: Tensor = SumOverRanks.apply(number, group)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
    return total


class GatheredRows(torch.autograd.Function):
    """The rows of all ranks."""

    @staticmethod
    def forward(ctx: Any, sizes: tuple[int, ...], group: Group, alike: bool, *parts: Tensor) -> Any:
        ctx.sizes, ctx.group, ctx.alike = sizes, group, alike
        if max(sizes) * sum(row_length(part) * part.element_size() for part in parts) > TOGETHER:
            outputs = rows_of_ranks(parts, sizes, group)
        else:
            (together,) = rows_of_ranks([as_bytes(parts)], sizes, group)
            outputs = from_bytes(together, parts)
        ctx.mark_non_differentiable(*(part for part in outputs if not part.dtype.is_floating_point))
        ctx.save_for_backward(*outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        if torch.is_grad_enabled():  # what ranks make of their gradients, and then of these rows, is not alike
            ctx.alike = False
            # nor does the gradient of a rank without rows depend on them, where others exchange what it depends on
            rows = [part for part in ctx.saved_tensors if part.requires_grad]
            gradients = tuple(None if gradient is None else tied(gradient, rows) for gradient in gradients)
        back = own_times_ranks if ctx.alike else ScatteredRows.apply
        wanted = ctx.needs_input_grad[3:]
        of_parts = (
            back(gradient, ctx.sizes, ctx.group) if asked and gradient is not None else None
            for asked, gradient in zip(wanted, gradients, strict=True)
        )
        return None, None, None, *of_parts


def own_times_ranks(everyone: Tensor, sizes: Sequence[int], group: Group) -> Tensor:
    """Return the sum over ranks of what they have for the rows of this one, where all of them have the same."""
    rank = dist.get_rank(group)
    return everyone[sum(sizes[:rank]) : sum(sizes[: rank + 1])] * len(sizes)


class ScatteredRows(torch.autograd.Function):
    """The sum over ranks of what they have for the rows of this one."""

    @staticmethod
    def forward(ctx: Any, everyone: Tensor, sizes: tuple[int, ...], group: Group) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        # sent as they are and added up here: in the order of ranks, whatever the backend, and without padding
        count = sizes[dist.get_rank(group)]
        parts = everyone.new_empty(len(sizes) * count, *everyone.shape[1:])
        dist.all_to_all_single(parts, everyone.contiguous(), [count] * len(sizes), list(sizes), group=group)
        return parts.view(len(sizes), count, *everyone.shape[1:]).sum(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gathered([gradient], ctx.sizes, ctx.group)[0], None, None


class SumOverRanks(torch.autograd.Function):
    """The sum over ranks."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, group: Group) -> Tensor:
        ctx.ranks = dist.get_world_size(group)
        total = number.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.ranks, None


def rows_of_ranks(parts: Sequence[Tensor], sizes: Sequence[int], group: Group) -> list[Tensor]:
    """Return the rows of all ranks of several tensors, which travel at the same time."""
    sent = [padded(part, max(sizes)) for part in parts]
    received = [part.new_empty(len(sizes), *part.shape) for part in sent]
    messages = [
        dist.all_gather(list(everyone.unbind()), part, group=group, async_op=True)
        for everyone, part in zip(received, sent, strict=True)
    ]
    for message in messages:
        message.wait()
    if min(sizes) == max(sizes):
        return [everyone.flatten(0, 1) for everyone in received]
    return [torch.cat([part[:size] for part, size in zip(everyone, sizes, strict=True)]) for everyone in received]


def as_bytes(parts: Sequence[Tensor]) -> Tensor:
    """Return rows of several tensors ``(N, ...)`` beside one another ``(N, bytes)``."""
    return torch.cat([part.contiguous().view(len(part), row_length(part)).view(torch.uint8) for part in parts], 1)


def from_bytes(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return rows ``(M, bytes)`` as tensors again, of the dtypes and with the shapes of rows of others."""
    widths = [row_length(part) * part.element_size() for part in like]
    return [
        # a single row counts as contiguous wherever a next one would stand, and then its bytes have no view as numbers
        piece.clone(memory_format=torch.contiguous_format).view(part.dtype).view(len(rows), *part.shape[1:])
        for piece, part in zip(torch.split(rows, widths, 1), like, strict=True)
    ]


def row_length(part: Tensor) -> int:
    """Return how many numbers a row has."""
    return math.prod(part.shape[1:])


def padded(rows: Tensor, count: int) -> Tensor:
    """Return so many rows, the last of them 0: what is gathered is of one size on all ranks."""
    rows = rows.contiguous()
    missing = count - len(rows)
    return F.pad(rows, [0, 0] * (rows.ndim - 1) + [0, missing]) if missing else rows


def tied(number: Tensor, gathered: Sequence[Tensor]) -> Tensor:
    """Return the number such that its backward visits what was gathered, with a derivative of 0: a rank on which
    nothing depends on that would not take part in handing gradients back, and the others would wait for it."""
    knot: Tensor = Tied.apply(number, *gathered)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
    return knot


class Tied(torch.autograd.Function):
    """The same number, seen to depend on others too."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, *gathered: Tensor) -> Tensor:
        ctx.count = len(gathered)
        return number.view_as(number)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # autograd visits also what gets nothing here, and hands it zeros where nobody else has a gradient for it
        return gradient, *(None for _ in range(ctx.count))
