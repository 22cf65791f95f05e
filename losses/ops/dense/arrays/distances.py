"""Means over the distances of a few points, listed or in a square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.core.torch_private import pdist_backward
from losses.ops.dense.arrays.log_sums import Found
from losses.ops.dense.arrays.positives import Positives, diagonal
from losses.ops.dense.one_by_one import PairDistances, places_of_pairs
from losses.ops.elementwise.arrays import Array, whole
from losses.ops.tiles.sizes import sizes


class Distances:
    """Euclidean distances of few points to one another, as torch lists them, in NumPy.

    Args:
        pairs: of points.
    """

    def __init__(self, pairs: PairDistances) -> None:
        self._pairs, self._places = pairs, places_of_pairs(len(pairs.points))
        self.listed: Array = pairs.values.numpy()
        """That of every pair of points once ``(P,)``, to be read only."""

    @classmethod
    def of(cls, points: Tensor, difference: float | None) -> Distances | None:
        """Return those of points, where :meth:`losses.ops.dense.one_by_one.PairDistances.of` does."""
        pairs = PairDistances.of(points, difference)
        return None if pairs is None else cls(pairs)

    def in_square(self) -> Array:
        """Return a matrix of them ``(N, N)``, infinite where a point meets itself."""
        square: Array = self.listed[self._places.of_entries.numpy()]
        diagonal(square)[:] = np.inf
        return square

    def gradients(self, slopes: Array) -> Sequence[Tensor]:
        """Return the gradient of the points from a derivative by the list, or by the matrix, where it is 0 where a
        point meets itself."""
        if slopes.ndim == 2:
            slopes = (slopes + slopes.T).reshape(-1)[self._places.in_square.numpy()]
        return (pdist_backward(torch.from_numpy(slopes), self._pairs.points, self._pairs.values),)


def contrastive(
    compared: Distances,
    positives: Positives,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> Found | None:
    """Return the mean of :func:`losses.ops.dense.contrastive.dense_contrastive`."""
    distances = compared.listed
    signed = np.minimum(distances - margin, 0)
    near = positives.in_list()
    excess = distances[near] - positive_margin
    signed[near] = np.maximum(excess, 0) if positive_margin else excess
    items = np.abs(signed) if power == 1 else signed * signed
    slopes = np.sign(signed) if power == 1 else signed
    if average == "balanced":
        active = int(np.count_nonzero(signed[near]))
        counts = active or 1, (int(np.count_nonzero(signed)) - active) or 1
        cost = whole(items[near]) / counts[0]
        items[near] = 0
        cost += whole(items) / counts[1]
        slopes_of_near = slopes[near] / counts[0]
        slopes = slopes / counts[1]
        slopes[near] = slopes_of_near
        return cost / power, slopes
    number = len(signed) if average == "all" else int(np.count_nonzero(signed)) or 1
    return whole(items) / (power * number), slopes / number


def triplets(compared: Distances, positives: Positives, *, margin: float, average: Average) -> Found | None:
    """Return the mean of :func:`losses.ops.dense.triplets.dense_triplets`; ``None`` where there are many triplets, or
    none."""
    size, row = positives.size, positives.row
    if not 0 < len(positives) * size <= sizes().triplets:
        return None
    distances = compared.in_square()
    near = positives.of(distances) + margin
    positives.put(distances, np.inf)
    counts = positives.counts.tolist()
    each, alike = counts[0], counts.count(counts[0]) == size
    # every anchor has as many: no row is copied
    costs = near.reshape(size, each, 1) - distances[:, np.newaxis] if alike else near[:, np.newaxis] - distances[row]
    np.maximum(costs, 0, out=costs)
    cost = whole(costs)
    slopes = np.sign(costs, out=costs)
    of_near = np.add.reduce(slopes, -1).reshape(-1)
    rivals = float(np.dot(positives.counts, size - 1 - positives.counts)) if average == "all" else whole(of_near)
    number = max(1.0, rivals)
    if alike:
        gradient = np.add.reduce(slopes, 1)
        gradient /= -number
    else:
        gradient = np.zeros_like(distances)
        first = positives.first
        gradient[row[first]] = np.add.reduceat(slopes, first) / -number
    positives.put(gradient, of_near / number)
    return cost / number, gradient
