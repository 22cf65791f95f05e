"""Similarities of few points in NumPy, and the way back for a derivative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from losses.ops.dense.arrays.positives import diagonal
from losses.ops.elementwise.arrays import Array, array
from losses.ops.pairs.log_sums import MODEST

RANGES = {
    np.dtype(dtype): (float(limits.tiny) ** 0.5, float(limits.max) ** 0.5)
    for dtype, limits in ((dtype, np.finfo(dtype)) for dtype in (np.float32, np.float64))
}
"""Squared lengths of each dtype that have all their digits, and whose own squares do not overflow."""


class Angles:
    """The matrix of cosines of a small set with itself ``(N, N)``, or of two sets ``(N, M)``.

    Args:
        units: points at length 1 ``(P, D)``, those of two sets on top of each other.
        lengths: that they had ``(P, 1)``.
        size: of the first set.
        itself: whether all are compared with all, and not the first set with the second.
    """

    def __init__(self, units: Array, lengths: Array, size: int, *, itself: bool) -> None:
        self.itself, self._units, self._lengths, self._size = itself, units, lengths, size
        self._first, self._second = (torch.from_numpy(part) for part in self._sets(units))
        self.values: Array = torch.mm(self._first, self._second.t()).numpy()

    @classmethod
    def of(cls, *sets: Tensor, stacked: bool = False) -> Angles | None:
        """Return those of a set with itself, of two with each other, or, ``stacked``, of all points of both; ``None``
        if a point has no direction, or its square leaves the range of float64."""
        points = array(sets[0]) if len(sets) == 1 else np.concatenate([array(points) for points in sets])
        squares = squares_of(points)
        if squares is None and points.dtype == np.float32:
            squares = squares_of(points.astype(np.float64))
        if squares is None:
            return None
        lengths = np.sqrt(squares, out=squares)[:, np.newaxis]
        units = (points / lengths).astype(points.dtype, copy=False)
        return cls(units, lengths, len(sets[0]), itself=stacked or len(sets) == 1)

    def logits(self, temperature: float) -> Array | None:
        """Return the values less 1 over a temperature, in their memory, whose exponentials all have their digits; else
        ``None``."""
        if MODEST * temperature < 2:
            return None
        logits = self.values
        logits -= 1
        logits *= 1 / temperature
        return logits

    def without_itself(self, values: Array, value: float) -> Array:
        """Set the entries where a point of a set meets itself."""
        if self.itself:
            diagonal(values)[:] = value
        return values

    def exponentials(self, logits: Array) -> Array:
        """Return exponentials in the place of logits; a point is nothing to itself."""
        return self.without_itself(np.exp(logits, out=logits), 0)

    def gradients(self, slopes: Array) -> Sequence[Tensor]:
        """Return the gradient of each set from a derivative by the values, which is 0 where a point meets itself."""
        gradient, size = np.empty_like(self._units), self._size
        of_first, of_second = (torch.from_numpy(part) for part in self._sets(gradient))
        if self.itself:
            torch.mm(torch.from_numpy(slopes + slopes.T), self._second, out=of_first)
        else:
            matrix = torch.from_numpy(slopes)
            torch.mm(matrix, self._second, out=of_first)
            torch.mm(matrix.t(), self._first, out=of_second)
        # turning a point changes its angles, moving it outwards does not
        outwards = np.einsum("nd,nd->n", gradient, self._units)[:, np.newaxis]
        gradient -= outwards * self._units
        gradient /= self._lengths
        if size == len(gradient):
            return (of_first,)
        return [torch.from_numpy(part) for part in (gradient[:size], gradient[size:])]

    def _sets(self, points: Array) -> tuple[Array, Array]:
        """Return those that are compared with the others, and these."""
        return (points, points) if self.itself else (points[: self._size], points[self._size :])


def squares_of(points: Array) -> Array | None:
    """Return the squared lengths of points ``(N,)``; ``None`` unless all stay amid the range of their dtype."""
    squares: Array = np.einsum("nd,nd->n", points, points)
    least, most = RANGES[points.dtype]
    return squares if least < np.minimum.reduce(squares) <= np.maximum.reduce(squares) < most else None
