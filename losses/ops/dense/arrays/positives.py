"""Who is whose positive in a small batch, as a list: beside a few positives it costs less than masks of all pairs."""

from __future__ import annotations

import numpy as np

from losses.ops.dense.log_sums import LOWEST
from losses.ops.elementwise.arrays import Array


class Positives:
    """Every anchor with every positive of it, in the order of a square matrix ``(N, N)``.

    Args:
        labels: of the batch ``(N,)``.
    """

    def __init__(self, labels: Array) -> None:
        same = labels[:, np.newaxis] == labels
        diagonal(same)[:] = False
        self.size = len(labels)
        self.place: Array = same.reshape(-1).nonzero()[0]
        """In the flattened matrix ``(P,)``."""
        self.row = self.place // self.size
        """Anchor of each ``(P,)``."""
        self.counts = np.bincount(self.row, minlength=self.size)
        """Positives of every anchor ``(N,)``."""

    def __len__(self) -> int:
        return len(self.place)

    def of(self, matrix: Array) -> Array:
        """Return the entries of the positives ``(P,)``."""
        return matrix.reshape(-1)[self.place]

    def put(self, matrix: Array, values: Array | float) -> None:
        """Set the entries of the positives."""
        matrix.reshape(-1)[self.place] = values

    def sums(self, values: Array) -> Array:
        """Return the sum of values ``(P,)`` for every anchor ``(N,)``."""
        return np.bincount(self.row, values, self.size)

    def greatest(self, values: Array) -> Array:
        """Return the greatest of values ``(P,)`` for every anchor ``(N,)``, and a low number where there are none."""
        found = np.full(self.size, LOWEST, values.dtype)
        if len(values):
            found[self.row[self.first]] = np.maximum.reduceat(values, self.first)
        return found

    @property
    def first(self) -> Array:
        """Where in the list each anchor that has positives begins."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    def in_list(self) -> Array:
        """Return where the positive pairs stand in a list of every pair of points once."""
        other = self.place - self.row * self.size
        row, other = (part[self.row < other] for part in (self.row, other))
        place: Array = row * (2 * self.size - 3 - row) // 2 + other - 1
        return place


def diagonal(matrix: Array, offset: int = 0) -> Array:
    """Return the entries where the row and the column have one number, of a square matrix in one piece, as its own
    memory; or those that follow an offset in that memory."""
    return matrix.reshape(-1)[offset :: matrix.shape[1] + 1]
