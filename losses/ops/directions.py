"""Cosine distances of matching rows, and their derivatives, in few passes over the points and without copies of them:
the readable definition is :func:`losses.ops.distances.rowwise_distance`, and answers where digits would be lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.precision import matched
from losses.core.torch_private import may_read
from losses.ops.distances import rowwise_distance
from losses.ops.elementwise.buffers import buffers
from losses.ops.tiles.rows import by_autograd
from losses.ops.tiles.sizes import sizes

FEW = 1 << 12  # squares that float32 adds up to within a few of its last digits
CLOSE = 1e-4
"""Cosine distance from which the difference of two directions in float32 has five digits or more, and from 2, that of
opposite ones, their sum."""

Sides = Sequence[tuple[int, int]]


class Directions(NamedTuple):
    """How far apart in direction the rows of P sets of points ``(N, D)`` are, for K pairs of sets.

    Args:
        distances: 1 - cosine ``(K, N)``.
        close: the rows for which the definition answers ``(C,)``; ``None`` where there is none, or it does for all.
        lengths: of the rows, P of ``(N, 1)``; none where the definition answers for all.
    """

    distances: Tensor
    close: Tensor | None
    lengths: Sequence[Tensor]


def directions_of(points: Sequence[Tensor], sides: Sides) -> Directions:
    """Return how far apart in direction points are, in their own precision, but for rows that lie close, or
    opposite one another."""
    lengths, close = usual_lengths(points), None
    if not lengths:
        return Directions(definition(*points, sides=sides), None, ())
    distances = points[0].new_empty(len(sides), len(points[0]))
    for part, (one, other) in zip([distances[0]] if len(sides) == 1 else distances.unbind(), sides, strict=True):
        write_lengths(points[one], points[other], lengths[one], lengths[other], part)
    distances.square_().mul_(0.5)
    least, most = distances.aminmax()
    if least.item() < CLOSE or most.item() > 2 - CLOSE:
        close = ((distances < CLOSE) | (distances > 2 - CLOSE)).any(0).nonzero().squeeze(-1)
        distances.index_copy_(1, close, definition(*(part.index_select(0, close) for part in points), sides=sides))
    return Directions(distances, close, lengths)


def definition(*points: Tensor, sides: Sides) -> Tensor:
    """Return the distances ``(K, N)`` as a plain composition."""
    return torch.stack([rowwise_distance(points[one], points[other], "cosine") for one, other in sides])


def usual_lengths(points: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the lengths of all rows, P of ``(N, 1)``, in the precision of the points; none if that is not enough for
    each."""
    range_, rows = torch.finfo(points[0].dtype), points[0]
    if rows.shape[-1] > FEW or not rows.numel() or not may_read(rows):
        return ()
    lengths = [torch.linalg.vector_norm(part, dim=-1, keepdim=True) for part in points]
    least, most = torch.cat(lengths).aminmax()
    return lengths if least.item() > range_.tiny**0.25 and most.item() < range_.max**0.25 else ()


def write_lengths(first: Tensor, second: Tensor, of_first: Tensor, of_second: Tensor, into: Tensor) -> None:
    """Write the lengths of the differences of rows ``(N, D)``, each divided by its own length ``(N, 1)``."""
    step = max(1, sizes().strip // first.shape[1])
    if len(first) > step:
        strips = (torch.split(part, step) for part in (first, second, of_first, of_second, into))
        for strip in zip(*strips, strict=True):
            write_lengths(*strip)
        return
    with buffers(first.dtype, first.numel(), 1) as (buffer,):
        difference = torch.div(first, of_first, out=buffer[: first.numel()].view(first.shape))
        torch.linalg.vector_norm(difference.addcdiv_(second, of_second, value=-1), dim=-1, out=into)


def slopes_of(
    directions: Directions, sides: Sides, points: Sequence[Tensor], factors: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Return the derivatives of the distances, times factors ``(K, N)``, by the points that want them.

    With d = 1 - cosine, that by a of length r, compared with b of length s, is (1 - d) a / r² - b / (r s).
    """
    distances, close, lengths = directions
    if not lengths:
        return [part if wants else None for part, wants in zip(exact(points, sides, factors), wanted, strict=True)]
    own = torch.addcmul(factors, factors, distances, value=-1).unsqueeze(-1).unbind()
    across = [f / (lengths[a] * lengths[b]) for f, (a, b) in zip(factors.unsqueeze(-1), sides, strict=True)]
    found: list[Tensor | None] = [None] * len(points)
    for place, point in enumerate(points):
        compared = [(k, sum(side) - place) for k, side in enumerate(sides) if place in side]
        if not wanted[place] or not compared:
            continue
        slope = point * (sum((own[k] for k, _ in compared[1:]), own[compared[0][0]]) / lengths[place].square())
        for k, other in compared:
            slope.addcmul_(points[other], across[k], value=-1)
        found[place] = slope
    if close is not None:
        some = exact([part.index_select(0, close) for part in points], sides, factors.index_select(1, close))
        for slopes, right in zip(found, some, strict=True):
            if slopes is not None:
                slopes.index_copy_(0, close, right)
    return found


def exact(points: Sequence[Tensor], sides: Sides, factors: Tensor) -> Sequence[Tensor]:
    """Return the derivatives likewise from the definition."""
    return by_autograd(partial(definition, sides=sides), points, matched(factors, points[0]))[1]
