"""The matrix of all distances in one piece, with the way back to the points: for lists of indices into it.

Small ones are made in as few operations as there can be, for at a hundred points these decide and not arithmetic. If
some points turn out too close to be told apart that way, or too far, the matrix is made as a block of
:mod:`losses.ops.tiles.blocks`, which measures them exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.precision import accumulation_dtype
from losses.ops.distances import length
from losses.ops.tiles.blocks import CLOSE, SMALLEST, Tile, Tiles
from losses.ops.tiles.exact import TOO_CLOSE
from losses.ops.tiles.sizes import sizes

ASKED = 32  # points of which the mean is near enough to that of all

Gradients = tuple[Tensor | None, Tensor | None]


def matrix_of(
    first: Tensor, second: Tensor | None, measure: str, follows: tuple[bool, ...], *, outputs: int = 1
) -> SmallMatrix | BlockMatrix:
    """Return the matrix ``(N, M)`` of all that the rows of two sets measure.

    Args:
        first: the rows ``(N, D)``.
        second: the columns ``(M, D)``; ``None`` is the first.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
        follows: whether gradients of the first and of the second will be asked for.
        outputs: of how many sums.
    """
    small = small_matrix(first, second, measure, follows)
    return BlockMatrix(first, second, measure, follows, outputs) if small is None else small


def small_matrix(first: Tensor, second: Tensor | None, measure: str, follows: tuple[bool, ...]) -> SmallMatrix | None:
    """Return the same if it is small enough for a single product, and that tells all distances."""
    if not 0 < len(first) * len(first if second is None else second) <= sizes().one_block:
        return None
    small = SmallMatrix(first, second, measure, follows)
    return small if small.is_told else None


def precision_of(first: Tensor, second: Tensor | None) -> torch.dtype:
    """Return the dtype to compare two sets in: so few pairs that float64 costs nothing are compared in that."""
    pairs = len(first) * len(first if second is None else second)
    return accumulation_dtype(first) if pairs <= sizes().exact else first.dtype


class SmallMatrix:
    """The matrix of distances by a single product.

    Args:
        first, second, measure, follows: see :func:`matrix_of`.
    """

    def __init__(self, first: Tensor, second: Tensor | None, measure: str, follows: tuple[bool, ...]) -> None:
        self.itself, self.measure, self._follows = second is None, measure, follows
        dtype = precision_of(first, second)
        self._first, self._lengths = self._taken(first, dtype)
        self._second, self._other_lengths = (
            (self._first, self._lengths) if second is None else self._taken(second, dtype)
        )
        self.is_told = True
        """Whether all distances are as precise as the points."""
        if measure == "similarity":
            self.values = self._first @ self._second.mT
        else:
            self._measure()

    def _taken(self, points: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return points in the precision to compute in, and where angles are measured at length 1 and the lengths that
        they had."""
        if self.measure.endswith("euclidean"):
            return points.to(dtype), None
        lengths = length(points)
        if self.measure == "similarity":  # of which distances, divided by 0, make a NaN that is not told
            lengths.masked_fill_(lengths == 0, 1)
        return (points / lengths).to(dtype), lengths.to(dtype)

    def _measure(self) -> None:
        if self.measure != "cosine":  # a translation changes no distance, and small numbers are rounded less
            centre = self._second[:: -(-len(self._second) // ASKED)].mean(0)  # of some: it need not be exact
            self._first = self._first - centre
            self._second = self._first if self.itself else self._second - centre
        first, second = self._first, self._second
        squares = torch.linalg.vecdot(first, first)
        others = squares if self.itself else torch.linalg.vecdot(second, second)
        values = torch.addmm(squares.unsqueeze(1), first, second.mT, alpha=-2).add_(others)
        if self.itself:
            values.fill_diagonal_(torch.inf)
        longest = float(squares.amax())
        longest += longest if self.itself else float(others.amax())
        closeness = TOO_CLOSE if values.dtype is torch.float64 else CLOSE
        # asked so that a NaN is not told, nor a square beyond the range
        self.is_told = float(values.amin()) > longest * closeness + SMALLEST
        if self.measure == "euclidean":
            values.sqrt_()
        elif self.measure == "cosine":
            values.mul_(0.5)
        if self.itself:
            values.fill_diagonal_(0)
        self.values = values

    def gradients(self, of_values: Tensor) -> Gradients:
        """Return the gradients ``(K, N, D)`` and ``(K, M, D)`` of K sums by their derivatives ``(K, N, M)``, which are
        overwritten."""
        if self.measure == "euclidean":
            of_values.div_(self.values.fill_diagonal_(torch.inf) if self.itself else self.values)
        elif self.measure == "squared_euclidean":
            of_values.mul_(2)
        if self.itself:
            return self._of_points(of_values + of_values.mT, self._first, self._second, self._lengths), None
        of_first = of_second = None
        if self._follows[0]:
            of_first = self._of_points(of_values, self._first, self._second, self._lengths)
        if self._follows[1]:
            of_second = self._of_points(of_values.mT, self._second, self._first, self._other_lengths)
        return of_first, of_second

    def _of_points(self, weights: Tensor, points: Tensor, others: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the gradient of points ``(K, N, D)`` that are drawn to others by weights ``(K, N, M)``."""
        gradient = weights @ others
        if self.measure != "similarity":  # to itself no point is drawn: what is added here was taken off
            gradient = torch.addcmul(gradient.neg_(), weights.sum(-1, keepdim=True), points)
        if lengths is None:
            return gradient
        outwards = torch.linalg.vecdot(gradient, points).unsqueeze(-1)  # which changes no angle
        return gradient.addcmul_(outwards, points, value=-1).div_(lengths)


class BlockMatrix:
    """The same as a single block, in which points that nearly coincide, or are far off, are measured exactly."""

    def __init__(
        self,
        first: Tensor,
        second: Tensor | None,
        measure: str,
        follows: tuple[bool, ...],
        outputs: int,
    ) -> None:
        tiles = Tiles(
            *(first, second, measure),
            dtype=precision_of(first, second),
            blocks=[slice(0, len(first))],
            differentiable=(follows[0], follows[1]),
            outputs=outputs,
        )
        (self._tile,) = tiles
        measure_itself(self._tile)
        self.values = self._tile.values

    def gradients(self, of_values: Tensor) -> Gradients:
        """Return the gradients ``(K, N, D)`` and ``(K, M, D)`` of K sums by their derivatives ``(K, N, M)``, which are
        overwritten, as are the values."""
        kept = self.values.clone() if len(of_values) > 1 else None
        for output, part in enumerate(of_values):
            if output and kept is not None:
                self.values.copy_(kept)
            take_back(self._tile, part, output)
        return self._tile.tiles.gradients()


def measure_itself(tile: Tile) -> None:
    """Write what points measure to themselves into a block, where a set meets itself: indices may ask for it."""
    if not tile.tiles.itself:
        return
    value: Tensor | float = 0.0
    if not tile.tiles.measure.endswith("euclidean"):  # rows of zeros have no direction, and the cosine 0 to all
        exists = (tile.tiles.first[tile.rows] != 0).any(1)
        value = exists if tile.tiles.measure == "similarity" else ~exists
    tile.itself().copy_(torch.as_tensor(value))


def take_back(tile: Tile, gradient: Tensor, output: int = 0) -> None:
    """Add the derivative of a sum by a block, in which :func:`measure_itself` was written, to the gradient of the
    points; both are overwritten."""
    if tile.tiles.itself:
        tile.at_itself(gradient, 0)
        tile.at_itself(tile.values, torch.inf)
    tile.accumulate_gradient(gradient, output)
