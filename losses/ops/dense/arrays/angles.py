"""Similarities of few points in NumPy, and the way back for a derivative."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from losses.ops.dense.log_sums import LOWEST
from losses.ops.elementwise.arrays import Array, array


class Angles:
    """The matrix of cosines ``(N, M)`` of two small sets, or of a set with itself ``(N, N)``.

    Args:
        first: points at length 1 ``(N, D)``.
        second: likewise ``(M, D)``; ``None`` compares the first with itself.
    """

    def __init__(self, first: Units, second: Units | None) -> None:
        self._first, self._second = first, second
        self.itself = second is None
        columns = first if second is None else second
        self.values: Array = torch.mm(torch.from_numpy(first.points), torch.from_numpy(columns.points).t()).numpy()

    @classmethod
    def of(cls, first: Tensor, second: Tensor | None = None) -> Angles | None:
        """Return those of points; ``None`` if a length, or its square, leaves the range of the dtype, as 0 does."""
        rows = Units.of(first)
        columns = None if second is None else Units.of(second)
        return None if rows is None or (second is not None and columns is None) else cls(rows, columns)

    @staticmethod
    def positive(labels: Array) -> Array:
        """Return who is whose positive ``(N, N)``."""
        return same_class(labels)

    def logits(self, scale: float) -> Array:
        """Return the values times a scale, in their memory; a point is nothing to itself."""
        self.values *= scale
        return self.without_itself(self.values, LOWEST)

    def without_itself(self, values: Array, value: float) -> Array:
        """Set the entries where a point of a set meets itself."""
        if self.itself:
            diagonal(values)[:] = value
        return values

    def gradients(self, slopes: Array) -> tuple[Tensor, ...]:
        """Return the gradient of each set from a derivative by the values, which is 0 where a point meets itself."""
        if self._second is None:
            return (self._first.gradient(slopes + slopes.T, self._first),)
        return self._first.gradient(slopes, self._second), self._second.gradient(slopes.T, self._first)


class Units:
    """Points at length 1, and the lengths ``(N, 1)`` that they had."""

    def __init__(self, points: Array, lengths: Array) -> None:
        self.points, self.lengths = points, lengths

    @classmethod
    def of(cls, points: Tensor) -> Units | None:
        given = array(points)
        squares = np.einsum("nd,nd->n", given, given)
        range_ = np.finfo(given.dtype)
        if not range_.tiny**0.5 < squares.min() <= squares.max() < range_.max**0.5:
            return None
        lengths = np.sqrt(squares)[:, np.newaxis]
        return cls(given / lengths, lengths)

    def gradient(self, slopes: Array, others: Units) -> Tensor:
        """Return the gradient of these points from a derivative by their cosines with others."""
        gradient = torch.mm(torch.from_numpy(slopes), torch.from_numpy(others.points))
        of_points = gradient.numpy()
        # turning a point changes its angles, moving it outwards does not
        outwards = np.einsum("nd,nd->n", of_points, self.points)[:, np.newaxis]
        of_points -= outwards * self.points
        of_points /= self.lengths
        return gradient


def same_class(labels: Array) -> Array:
    """Return who is of one class with whom ``(N, N)``, nobody with itself."""
    same: Array = labels[:, np.newaxis] == labels
    diagonal(same)[:] = False
    return same


def diagonal(matrix: Array, offset: int = 0) -> Array:
    """Return the entries where the row and the column have one number, of a square matrix in one piece, as its own
    memory; or those that follow an offset in that memory."""
    return matrix.reshape(-1)[offset :: matrix.shape[1] + 1]
