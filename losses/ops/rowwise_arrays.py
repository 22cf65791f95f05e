"""Means of what a few matching rows cost, in NumPy, whose operations cost less to call: as :mod:`losses.ops.rowwise`
does it in torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from losses.core.precision import COMPUTED_IN
from losses.core.reduction import Total
from losses.ops.dense.arrays.angles import RANGES, squares_of
from losses.ops.directions import CLOSE
from losses.ops.eager import may_read, tangents_may_exist
from losses.ops.elementwise.arrays import (
    HUGE,
    IGNORING_OVERFLOW,
    TINY,
    WITHOUT_LOGIC,
    Array,
    apply_written,
    array,
    is_array,
    whole,
)
from losses.ops.tiles.sizes import sizes

Sides = Sequence[tuple[int, int]]
ArrayCost = Callable[[Array], tuple[Array, Array]]
"""From distances ``(K, N)`` to the values of the items ``(N,)`` and their derivatives ``(K, N)``."""


def mean_of_few_rows(
    sides: Sides,
    measure: str,
    cost: ArrayCost,
    definition: Callable[..., Total],
    points: Sequence[Tensor],
    weight: Tensor | None,
    *,
    counts_free: bool,
) -> Tensor | None:
    """Return the mean of what few rows cost, differentiable by the points; ``None`` where they are many, or equal,
    nearly of one direction or of opposite ones, or far out.

    Args:
        sides: which two of the sets of points are compared, for each of K distances.
        measure: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"``, a distance.
        cost: of items, which may write to the distances.
        definition: the total as a plain composition of the points.
        points: the sets that are compared, each ``(N, D)``.
        weight: of every item ``(N,)``.
        counts_free: whether items that cost nothing count too.
    """
    if not suits_few_rows(points, len(sides), weight):
        return None
    found = computed(sides, measure, cost, [array(part) for part in points], weight, counts_free)
    if found is None or not math.isfinite(found[0]):
        return None
    value, gradients = found
    slopes = tuple(torch.from_numpy(gradient) for gradient in gradients)
    made: Tensor = apply_written(value, lambda *points: definition(*points).mean(), slopes, *points)
    return made


def suits_few_rows(points: Sequence[Tensor], times: int, weight: Tensor | None) -> bool:
    """Return whether NumPy may compare the rows of sets so many times, and is faster."""
    first = points[0]
    if not may_read(first) or not torch.is_grad_enabled() or tangents_may_exist():
        return False
    dtype = first.dtype
    if not 0 < times * first.numel() <= sizes().rows_in_arrays:
        return False
    if dtype not in COMPUTED_IN or not is_array(weight, dtype):
        return False
    if any(part.dtype is not dtype or type(part) not in WITHOUT_LOGIC for part in points):
        return False
    return all(part.is_cpu for part in points) and any(part.requires_grad for part in points)


@IGNORING_OVERFLOW
def computed(
    sides: Sides, measure: str, cost: ArrayCost, points: Sequence[Array], weight: Tensor | None, counts_free: bool
) -> tuple[float, Sequence[Array]] | None:
    """Return the mean and its derivatives by each set of points."""
    rows = Directions.of(points, sides) if measure == "cosine" else Differences.of(points, sides, measure)
    if rows is None:
        return None
    items, slopes = cost(rows.distances)
    number: float = items.size
    if weight is not None:
        weights = array(weight)
        number = whole(weights if counts_free else weights[items > 0])
        if not TINY <= number <= HUGE:
            return None
        weights = weights / number  # at once: tiny weights have a tiny sum
        items, slopes = items * weights, slopes * weights
        return whole(items), rows.gradients(slopes)
    if not counts_free:
        number = max(1, int(np.count_nonzero(items)))
    slopes *= 1 / number
    return whole(items) / number, rows.gradients(slopes)


class Differences:
    """Euclidean distances of matching rows, or their squares."""

    def __init__(self, differences: Array, sides: Sides, distances: Array, *, squared: bool) -> None:
        self.distances, self._differences, self._sides = distances, differences, sides
        self._divisors = None if squared else distances.copy()

    @classmethod
    def of(cls, points: Sequence[Array], sides: Sides, measure: str) -> Differences | None:
        """Return those of some sets; ``None`` where two rows are equal, or their squares lose digits."""
        differences = differences_of(points, sides)
        squares = np.einsum("knd,knd->kn", differences, differences)
        least, most = RANGES[squares.dtype]
        if not least < np.minimum.reduce(squares, axis=None) <= np.maximum.reduce(squares, axis=None) < most:
            return None
        squared = measure == "squared_euclidean"
        return cls(differences, sides, squares if squared else np.sqrt(squares, out=squares), squared=squared)

    def gradients(self, slopes: Array) -> Sequence[Array]:
        """Return the gradient of each set from derivatives by the distances."""
        factors = 2 * slopes if self._divisors is None else slopes / self._divisors
        return at_both_ends(self._differences * factors[..., np.newaxis], self._sides)


class Directions:
    """Cosine distances of matching rows."""

    def __init__(
        self, units: Sequence[Array], lengths: Sequence[Array], differences: Array, sides: Sides, distances: Array
    ) -> None:
        self.distances, self._own, self._units, self._lengths = distances, distances.copy(), units, lengths
        self._differences, self._sides = differences, sides

    @classmethod
    def of(cls, points: Sequence[Array], sides: Sides) -> Directions | None:
        """Return those of some sets; ``None`` where a row has no direction, or two of them nearly the same one or
        opposite ones."""
        squares = [squares_of(part) for part in points]
        lengths = [np.sqrt(square)[:, np.newaxis] for square in squares if square is not None]
        if len(lengths) < len(points):
            return None
        units = [part / length for part, length in zip(points, lengths, strict=True)]
        differences = differences_of(units, sides)
        distances = np.einsum("knd,knd->kn", differences, differences)
        distances *= 0.5
        if not CLOSE < np.minimum.reduce(distances, axis=None) <= np.maximum.reduce(distances, axis=None) < 2 - CLOSE:
            return None
        return cls(units, lengths, differences, sides, distances)

    def gradients(self, slopes: Array) -> Sequence[Array]:
        """Return likewise. Turning a row changes its distances, moving it outwards does not: of what a difference of
        two units is along either of them, the distance, is taken away."""
        gradients = at_both_ends(self._differences * slopes[..., np.newaxis], self._sides)
        outwards = slopes * self._own
        for place, (gradient, unit, length) in enumerate(zip(gradients, self._units, self._lengths, strict=True)):
            along = sum(outwards[k] for k, side in enumerate(self._sides) if place in side)
            gradient -= np.reshape(along, (-1, 1)) * unit
            gradient /= length
        return gradients


def differences_of(points: Sequence[Array], sides: Sides) -> Array:
    """Return the differences of the sets that are compared ``(K, N, D)``."""
    differences = np.empty((len(sides), *points[0].shape), points[0].dtype)
    for part, (one, other) in zip(differences, sides, strict=True):
        np.subtract(points[one], points[other], out=part)
    return differences


def at_both_ends(moves: Array, sides: Sides) -> Sequence[Array]:
    """Return what moves ``(K, N, D)`` of one set of each pair, and against them of the other, are for every set."""
    found: dict[int, Array] = {}
    for move, (one, other) in zip(moves, sides, strict=True):
        found[other] = found[other] - move if other in found else -move
        found[one] = found[one] + move if one in found else move
    return [found[place] for place in sorted(found)]
