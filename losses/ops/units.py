"""Cosine distances of matching rows, and their derivatives, in few operations of which none looks at a value: for
devices on which every operation is a launch. On a CPU :mod:`losses.ops.directions` takes fewer passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.precision import accumulation_dtype

Sides = Sequence[tuple[int, int]]


class Units(NamedTuple):
    """P sets of points ``(N, D)`` at length 1, and how far apart K pairs of sets are, in float64.

    Args:
        distances: 1 - cosine ``(K, N)``; 1 beside a row of zeros.
        differences: of the units ``(K, N, D)``.
        lengths: of the points, or 1 in the place of 0, P of ``(N, 1)``.
        vectors: the units, P of ``(N, D)``; a row of zeros stays one.
    """

    distances: Tensor
    differences: Tensor
    lengths: Sequence[Tensor]
    vectors: Sequence[Tensor]


def units_of(points: Sequence[Tensor], sides: Sides) -> Units:
    """Return points in float32, of which float64 holds all squares, at length 1, and their distances."""
    dtype = accumulation_dtype(points[0])
    lengths = points[0].new_empty(len(points), len(points[0]), 1, dtype=dtype)
    for part, point in zip(lengths.unbind(), points, strict=True):
        torch.linalg.vector_norm(point, dim=-1, keepdim=True, dtype=dtype, out=part)
    zero = lengths == 0
    lengths.masked_fill_(zero, 1)
    vectors = [point / part for point, part in zip(points, lengths.unbind(), strict=True)]
    differences = lengths.new_empty(len(sides), *points[0].shape)
    for part, (one, other) in zip(differences.unbind(), sides, strict=True):
        torch.sub(vectors[one], vectors[other], out=part)
    # half the squared distance of vectors of length 1 is 1 - cosine, and exactly 0 for equal ones
    distances: Tensor = torch.linalg.vector_norm(differences, dim=-1).square_()
    for part, side in zip(distances.unbind(), sides, strict=True):
        for place in side:
            part.add_(zero[place].squeeze(-1))  # the square of length that a row of zeros lacks
    return Units(distances.mul_(0.5), differences, lengths.unbind(), vectors)


def slopes_of_units(units: Units, sides: Sides, factors: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """Return the derivatives of the distances, times factors ``(K, N)``, by the points that want them.

    With units u and v, d = 1 - cosine and r the length of a point, that by the point of u is (u - v - d u) / r.
    """
    own, factors = (units.distances * factors).unsqueeze(-1).unbind(), factors.unsqueeze(-1)
    found: list[Tensor | None] = []
    for place, wants in enumerate(wanted):
        compared = [(k, 1 if side[0] == place else -1) for k, side in enumerate(sides) if place in side]
        if not wants or not compared:
            found.append(None)
            continue
        along = sum((own[k] for k, _ in compared[1:]), own[compared[0][0]])
        slope = units.vectors[place] * along.neg()
        for k, sign in compared:
            slope.addcmul_(units.differences[k], factors[k], value=sign)
        found.append(slope.div_(units.lengths[place]))
    return found
