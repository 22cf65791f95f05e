"""Similarities of few points in NumPy, and the way back for a derivative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from losses.ops.dense.arrays.positives import diagonal
from losses.ops.dense.log_sums import LOWEST
from losses.ops.elementwise.arrays import Array, array
from losses.ops.pairs.log_sums import MODEST


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
        if a length, or its square, leaves the range of the dtype, as 0 does."""
        points = array(sets[0]) if len(sets) == 1 else np.concatenate([array(points) for points in sets])
        squares = np.einsum("nd,nd->n", points, points)
        range_ = torch.finfo(sets[0].dtype)
        if not range_.tiny**0.5 < np.minimum.reduce(squares) <= np.maximum.reduce(squares) < range_.max**0.5:
            return None
        lengths = np.sqrt(squares, out=squares)[:, np.newaxis]
        return cls(points / lengths, lengths, len(sets[0]), itself=stacked or len(sets) == 1)

    def logits(self, scale: float) -> Array:
        """Return the values times a scale, in their memory, less a number of each row or of all: so that none is above
        0 but by rounding, and no sum of exponentials over a row is 0."""
        logits = self.values
        if 2 * scale <= MODEST:
            logits -= 1
            logits *= scale
            return logits
        logits *= scale
        self.without_itself(logits, LOWEST)
        logits -= np.maximum.reduce(logits, 1, keepdims=True)
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
