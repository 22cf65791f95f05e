"""Means over the distances of a few points, listed or in a square."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.core.torch_private import pdist_backward
from losses.ops.dense.arrays.angles import same_class
from losses.ops.dense.arrays.log_sums import Found
from losses.ops.dense.one_by_one import PairDistances, places_of_pairs
from losses.ops.elementwise.arrays import Array, whole
from losses.ops.tiles.sizes import sizes


class Distances:
    """Euclidean distances of few points, measured by torch one by one, in NumPy.

    Args:
        pairs: of points.
        listed: whether they stay a list ``(P,)``, each pair once; else they stand in a square ``(N, N)``, infinite
            where a point meets itself.
    """

    def __init__(self, pairs: PairDistances, *, listed: bool) -> None:
        self._pairs, self._listed = pairs, listed
        self._places = places_of_pairs(len(pairs.points))
        values: Array = pairs.values.numpy()
        if not listed:
            values = values[self._places.of_entries.numpy()]
            np.fill_diagonal(values, np.inf)
        self.values = values

    @classmethod
    def of(cls, points: Tensor, difference: float | None, *, listed: bool) -> Distances | None:
        """Return those of points, where :meth:`losses.ops.dense.one_by_one.PairDistances.of` can tell them."""
        pairs = PairDistances.of(points, difference)
        return None if pairs is None else cls(pairs, listed=listed)

    def positive(self, labels: Array) -> Array:
        """Return who is whose positive, in the shape of the values."""
        if not self._listed:
            return same_class(labels)
        same: Array = labels[self._places.first.numpy()] == labels[self._places.second.numpy()]
        return same

    def gradients(self, slopes: Array) -> tuple[Tensor]:
        """Return the gradient of the points from a derivative by the values, 0 where a point meets itself."""
        if not self._listed:
            slopes = (slopes + slopes.T).reshape(-1)[self._places.in_square.numpy()]
        return (pdist_backward(torch.from_numpy(slopes), self._pairs.points, self._pairs.values),)


def contrastive(
    compared: Distances, positive: Array, *, margin: float, positive_margin: float, power: int, average: str
) -> Found | None:
    """Return the mean of :func:`losses.ops.dense.contrastive.dense_contrastive` over listed pairs ``(P,)``."""
    distances = compared.values
    excess = np.maximum(distances - positive_margin, 0) if positive_margin else distances
    signed = np.where(positive, excess, np.minimum(distances - margin, 0))
    slopes = np.sign(signed) if power == 1 else signed
    items = np.abs(signed) if power == 1 else signed * signed
    if average == "balanced":
        counts = [np.count_nonzero(kind) or 1 for kind in (signed > 0, signed < 0)]
        factors = np.where(positive, *(1 / count for count in counts)).astype(signed.dtype)
        return float(np.dot(items, factors)) / power, slopes * factors
    number = len(signed) if average == "all" else np.count_nonzero(signed) or 1
    return whole(items) / (power * number), slopes / number


def triplets(compared: Distances, positive: Array, *, margin: float, average: Average) -> Found | None:
    """Return the mean of :func:`losses.ops.dense.triplets.dense_triplets` over a square ``(N, N)``, infinite where a
    point meets itself; ``None`` where it has many triplets, or none."""
    distances, place = compared.values, np.flatnonzero(positive)
    size = len(distances)
    if not 0 < len(place) * size <= sizes().triplets:
        return None
    row, each = place // size, len(place) // size
    near = distances.reshape(-1)[place] + margin
    rivals = np.where(positive, np.inf, distances)
    alike = len(place) == each * size and bool((row.reshape(size, each) == np.arange(size)[:, np.newaxis]).all())
    # every anchor has as many: no row is copied
    costs = near.reshape(size, each, 1) - rivals[:, np.newaxis] if alike else near[:, np.newaxis] - rivals[row]
    np.maximum(costs, 0, out=costs)
    cost = whole(costs)
    slopes = np.sign(costs, out=costs)
    of_near = np.add.reduce(slopes, -1).reshape(-1)
    if average == "active":
        number = whole(of_near)
    else:
        counts = np.bincount(row, minlength=size)
        number = float(np.dot(counts, size - 1 - counts))
    number = max(1.0, number)
    if alike:
        gradient = np.add.reduce(slopes, 1)
        gradient /= -number
    else:
        first = np.flatnonzero(np.diff(row, prepend=-1))  # of every anchor that has positives
        gradient = np.zeros_like(distances)
        gradient[row[first]] = np.add.reduceat(slopes, first) / -number
    gradient.reshape(-1)[place] = of_near / number
    return cost / number, gradient
