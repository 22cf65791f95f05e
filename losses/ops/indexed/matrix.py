"""The matrix of all distances in one piece, with the way back to the points: for lists of indices into it.

Small ones are made in as few operations as there can be, for at a hundred points these decide and not arithmetic. If
some points turn out too close to be told apart that way, or too far, the matrix is made as a block of
:mod:`losses.ops.tiles.blocks`, which measures them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.precision import accumulation_dtype
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.sizes import sizes

Gradients = tuple[Tensor | None, Tensor | None]


def matrix_of(
    first: Tensor, second: Tensor | None, measure: str, follows: Sequence[bool], *, outputs: int = 1
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


def small_matrix(first: Tensor, second: Tensor | None, measure: str, follows: Sequence[bool]) -> SmallMatrix | None:
    """Return the same if it is small enough for a single product, and that tells all distances; where no CPU computes
    it is, or nobody would ask."""
    pairs = len(first) * len(first if second is None else second)
    if on_cpu(first) and not 0 < pairs <= sizes().one_block:
        return None
    small = SmallMatrix(first, second, measure, follows)
    return small if small.is_told else None


def precision_of(first: Tensor, second: Tensor | None) -> torch.dtype:
    """Return the dtype to compare two sets in: so few pairs that float64 costs nothing are compared in that."""
    pairs = len(first) * len(first if second is None else second)
    return accumulation_dtype(first) if pairs <= sizes().exact else first.dtype


class SmallMatrix(DenseMatrix):
    """The matrix by a single product, with what a point measures to itself, which indices may ask for.

    Args:
        first, second, measure, follows: see :func:`matrix_of`.
    """

    def __init__(self, first: Tensor, second: Tensor | None, measure: str, follows: Sequence[bool]) -> None:
        super().__init__(first, second, measure, follows=follows)
        if measure.endswith("euclidean"):
            self.at_itself(self.values, 0)
        elif measure == "cosine" and self.itself:  # rows of zeros have no direction
            self.values.diagonal().copy_((self.first == 0).all(1))

    def gradients(self, slopes: Tensor, scale: float = 1.0) -> Gradients:
        """Return the gradients ``(K, N, D)`` and ``(K, M, D)`` of K sums by their derivatives ``(K, N, M)``, which are
        overwritten, as are the values."""
        if self.itself and self.measure != "similarity":  # where a point does not move away from itself
            slopes.diagonal(dim1=-2, dim2=-1).zero_()
            self.at_itself(self.values, torch.inf)
        if len(slopes) > 1:
            return super().gradients(slopes, scale)
        first, second = super().gradients(slopes[0], scale)
        return None if first is None else first.unsqueeze(0), None if second is None else second.unsqueeze(0)


class BlockMatrix:
    """The same as a single block, in which points that nearly coincide, or are far off, are measured exactly."""

    def __init__(
        self,
        first: Tensor,
        second: Tensor | None,
        measure: str,
        follows: Sequence[bool],
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
