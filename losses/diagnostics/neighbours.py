"""Nearest neighbours, exactly: who they are and in which order.

One matrix product finds the few that rounding leaves in question; their distances are then taken from differences,
which are exact to the last digits however close two points lie, and the same for equal rows. A matrix product promises
neither.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from losses.core.errors import ConfigError, InputError, quoted
from losses.core.labelled import require_same_dimension
from losses.core.parameters import Distance
from losses.diagnostics.metrics import accepted_embeddings, require_distance
from losses.ops.distances import unit

BLOCK = 1 << 22  # elements of the largest temporary
ROWS = 16  # queries at a time at least: below that, reading the others again and again is all the work


@torch.no_grad()
def nearest(
    embeddings: Tensor, count: int, *, reference: Tensor | None = None, distance: Distance = "euclidean"
) -> Tensor:
    """Return the indices of the nearest neighbours of every embedding, the nearest first; equal distances go by index.

    Args:
        embeddings: the queries.
        count: how many neighbours, K.
        reference: where to look for them; ``None`` is among the queries, each of them without itself.
        distance: ``"euclidean"``, ``"squared_euclidean"`` (the same order) or ``"cosine"``.

    Shapes:
        embeddings: ``(N, D)``, reference: ``(M, D)``. Returns ``(N, K)``, integers. Memory is O(M), never N x M.

    Raises:
        ConfigError: ``distance`` is unknown, or ``count`` is not an integer of at least 1.
        InputError: the tensors do not fit together, hold NaN or infinity, or there are fewer than ``count`` others.

    >>> nearest(tensor([[0.0], [1.0], [3.0]]), 2)
    tensor([[1, 2],
            [0, 2],
            [1, 0]])
    """
    require_count(count=count)
    queries, others = compared(embeddings, reference, distance)
    itself = torch.arange(len(queries), device=queries.device)
    if len(queries) == 0:
        return itself.new_zeros(0, count)
    available = len(others) - (reference is None)
    if count > available:
        raise InputError(f"count asks for {count} neighbours and there are {available} to choose from; ask for fewer")
    everyone = torch.full_like(itself, count)
    return torch.cat([found for _, found in in_blocks(queries, others, itself, everyone, reference is None)])


def require_count(**counts: object) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"{name}: got {quoted(count)}, expected an integer of at least 1")


def compared(embeddings: Tensor, reference: Tensor | None, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return queries ``(N, D)`` and what they are compared with ``(M, D)``, such that Euclidean distance puts it in
    order."""
    require_distance(distance)
    if reference is None:
        (queries,) = (others,) = accepted_embeddings(embeddings=embeddings)
    else:
        queries, others = accepted_embeddings(embeddings=embeddings, reference_embeddings=reference)
        others = others.to(queries)
        require_same_dimension(queries, others)
    return (directions(queries, 0), directions(others, 1)) if distance == "cosine" else (queries, others)


def directions(vectors: Tensor, side: int) -> Tensor:
    """Return the rows at length 1; a row of zeros, whose cosine with anything is 0, points into a dimension of its side
    alone."""
    units = unit(vectors)
    apart = units.new_zeros(len(units), 2)
    apart[:, side] = (units.square().sum(1) < 0.5).to(units.dtype)
    return torch.cat([units, apart], 1)


def in_blocks(
    queries: Tensor, others: Tensor, wanted: Tensor, depth: Tensor, among_themselves: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, block by block, some rows of the queries and the indices of their nearest neighbours among the others.

    Args:
        queries, others: ``(N, D)`` and ``(M, D)``, as :func:`compared` returns them.
        wanted: indices of the queries to look for, in the order in which blocks are made.
        depth: ``(N,)``, how many neighbours each needs, at least 1; a block finds as many as its most demanding query.
        among_themselves: whether the others are the queries, so that each is looked for without itself.
    """
    lengths = others.square().sum(1)
    for rows in torch.split(wanted, max(ROWS, BLOCK // max(1, len(others)))):
        yield (
            rows,
            nearest_of(queries[rows], others, lengths, int(depth[rows].max()), rows if among_themselves else None),
        )


def nearest_of(queries: Tensor, others: Tensor, lengths: Tensor, count: int, itself: Tensor | None) -> Tensor:
    """Return the indices ``(B, K)`` of the nearest of the others ``(M, D)`` for one block of queries ``(B, D)``.

    Args:
        queries, others: as :func:`compared` returns them.
        lengths: ``(M,)``, the squared lengths of the others.
        count: K, at least 1 and at most as many as there are others.
        itself: ``(B,)``, the index of each query among the others, which is left out.
    """
    columns = candidates(queries, others, lengths, count, itself)
    if columns is None:
        exact = differences(queries, others)
        if itself is not None:
            exact.scatter_(1, itself.unsqueeze(1), torch.inf)
        return exact.sort(dim=1, stable=True).indices[:, :count]
    some = max(1, BLOCK // max(1, columns.shape[1] * others.shape[1]))
    parts = zip(torch.split(queries, some), torch.split(columns, some), strict=True)
    exact = torch.cat([differences(one.unsqueeze(1), others[among]).squeeze(1) for one, among in parts])
    return columns.gather(1, exact.sort(dim=1, stable=True).indices[:, :count])


def candidates(queries: Tensor, others: Tensor, lengths: Tensor, count: int, itself: Tensor | None) -> Tensor | None:
    """Return indices ``(B, C)``, rising, of a few others that hold the nearest K; ``None`` if they would be a quarter
    of all.

    For a moment this takes memory of a few times B x M, as the product itself does.
    """
    if 4 * count > len(others):
        return None
    sizes = queries.square().sum(1, keepdim=True) + lengths
    squared = torch.addmm(sizes, queries, others.mT, alpha=-2)
    # twice what both ways may be off together
    slack = sizes.mul_(4 * (others.shape[1] + 4) * torch.finfo(others.dtype).eps)
    if itself is not None:
        squared.scatter_(1, itself.unsqueeze(1), torch.inf)
    # at least K others surely lie within reach, so whoever surely lies beyond it is none of the nearest K
    reach = (squared + slack).topk(count, dim=1, largest=False).values[:, -1:]
    least = squared.sub_(slack)
    most = int((least <= reach).sum(1).max())
    return least.topk(most, dim=1, largest=False).indices.sort(dim=1).values if 4 * most <= len(others) else None


def differences(queries: Tensor, others: Tensor) -> Tensor:
    """Return distances ``(..., B, M)`` without a matrix product: every pair on its own, the same way."""
    return torch.cdist(queries, others, compute_mode="donot_use_mm_for_euclid_dist")
