"""Blocks of distances that float32 cannot tell: from a product in float64, and where that cannot either from
differences.

A product of points that lie R from the centre tells squared distances to about 1e-16 R^2. Those below 1e-9 R^2, or
beyond the range of float64, are measured pair by pair, and so are their derivatives. Where nothing may be looked at, on
an accelerator, they are 0 below the rounding and infinite beyond the range.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from losses.ops.distances import bounded, centre, length

# a squared distance below this fraction of the points' squared lengths has lost about 1e-6 of itself in float64
TOO_CLOSE = 1e-9
MANY = 4  # pairs of a row that are too close, above which another centre is worth a try
STRIP = 1 << 14  # elements of differences at a time, which stay in the cache


class ExactPoints:
    """Two sets of points in float64, and the gradients of K sums by them.

    Args:
        first: the rows ``(N, D)``.
        second: the columns ``(M, D)``; ``None`` is the first.
        measure: of distances, see :class:`losses.ops.tiles.blocks.Tiles`.
        outputs: how many sums are made.
        reads: whether values may be looked at.
        follows: whether the gradients of the first and of the second will be asked for.
        sides: what :func:`augmented` makes of the points less the mean of the columns, if that is known.
    """

    def __init__(
        self,
        first: Tensor,
        second: Tensor | None,
        measure: str,
        *,
        outputs: int,
        reads: bool,
        follows: tuple[bool, bool] = (True, True),
        sides: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.measure, self.reads, self.follows = measure, reads, follows
        self.first, self.second = first, first if second is None else second
        self.amid = measure == "cosine" or not len(self.second)
        """Whether no other centre will do better."""
        self._outputs = outputs
        self._gradients: tuple[Tensor, Tensor] | None = None
        if sides is not None and reads:
            self._keep(*sides)
        elif self.amid:
            self._move(None)
        elif reads:
            self._move(self.second.mean(0))
        else:
            self.move_amid()

    def move_amid(self) -> None:
        """Measure from amid most of the points, in place of from their mean."""
        self._move(centre(self.second))
        self.amid = True

    def _move(self, middle: Tensor | None) -> None:
        second = None if self.second is self.first else self.second
        self._keep(*augmented(self.first, second, self.measure, middle))

    def _keep(self, left: Tensor, right: Tensor) -> None:
        self.left, self.right = left, right
        if self.reads:  # what overflows shall be told from what does not
            for squares in (self.left[:, 0], self.right[:, -1]):
                squares.masked_fill_(squares == torch.inf, torch.nan)
        else:
            for points, squares in ((self.left[:, 1:-1], self.left[:, :1]), (self.right[:, 1:-1], self.right[:, -1:])):
                points.copy_(bounded(points, squares))

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients ``(K, N, D)`` and ``(K, M, D)`` that blocks add to, of no rows where none is asked for;
        of a set that meets itself, one."""
        if self._gradients is None:
            of_first, of_second = (
                points.new_zeros(self._outputs, len(points) if asked else 0, points.shape[1])
                for points, asked in zip((self.first, self.second), self.follows, strict=True)
            )
            self._gradients = of_first, of_first if self.second is self.first else of_second
        return self._gradients


class ExactBlock:
    """Some rows and columns of the matrix of distances: ``values`` in float64, and the way back for their derivative.

    Args:
        points: of the rows and columns.
        rows: of the block.
        columns: of the block.
        diagonal: column of the block at which its first row meets itself, infinitely far away, or that of each row
            ``(B,)``; ``None`` of two sets.
    """

    def __init__(self, points: ExactPoints, rows: slice, columns: slice, diagonal: int | Tensor | None) -> None:
        self.points, self.rows, self.columns, self._diagonal = points, rows, columns, diagonal
        self.near: tuple[Tensor, ...] | None = None
        if not points.reads:
            squared, lengths = self._product()
            rounding = (points.first.shape[1] + 4) * torch.finfo(squared.dtype).eps
            squared.masked_fill_(squared < lengths.mul_(rounding), 0)
            self.values = at_diagonal(measured(squared, points.measure), diagonal, torch.inf)
            return
        squared, self.near = self._told()
        if len(self.near[0]) > MANY * len(squared) and not points.amid:
            points.move_amid()
            squared, self.near = self._told()
        self.values = at_diagonal(measured(squared, points.measure), diagonal, torch.inf)
        distances = squared.new_empty(len(self.near[0]))
        for strip, differences in self._differences(*self.near):
            distances[strip] = torch.linalg.vector_norm(differences, dim=1)
            if not bool(distances[strip].isfinite().all()):
                distances[strip] = length(differences).squeeze(1)
        self.values[self.near] = distances if points.measure == "euclidean" else measured(distances**2, points.measure)
        apart = torch.nonzero(distances).squeeze(1)  # whereas duplicates stay where they are
        self.near = tuple(index[apart] for index in self.near)

    def accumulate_gradient(self, gradient: Tensor, output: int, columns: slice) -> None:
        """Add the derivative of a sum by some columns of the block to the gradients of the points."""
        weights, values = gradient.to(self.values.dtype, copy=True), self.values[:, columns]
        if self.points.measure == "euclidean":
            weights.div_(values.masked_fill(values == 0, torch.inf))
        else:
            weights.masked_fill_(values == 0, 0).mul_(2 if self.points.measure == "squared_euclidean" else 1)
        there = slice(self.columns.start + columns.start, self.columns.start + columns.stop)
        all_first, all_second = (part[output] for part in self.points.gradients())
        of_first = all_first[self.rows] if self.points.follows[0] else None
        of_second = all_second[there] if self.points.follows[1] else None
        if self.near is not None and len(self.near[0]):
            row, column = self.near
            if values.shape != self.values.shape:
                inside = (column >= columns.start) & (column < columns.stop)
                row, column = row[inside], column[inside] - columns.start
            slopes = weights[row, column]
            weights[row, column] = 0
            self._add_one_by_one(slopes, row, column, of_first, of_second, columns.start)
        first, second = self.points.left[self.rows, 1:-1], self.points.right[there, 1:-1]
        # the first are there times -2
        if of_first is not None:
            of_first.addcmul_(weights.sum(1, keepdim=True), first, value=-0.5).addmm_(weights, second, alpha=-1)
        if of_second is not None:
            of_second.addcmul_(weights.sum(0).unsqueeze(1), second).addmm_(weights.mT, first, alpha=0.5)

    def _product(self) -> tuple[Tensor, Tensor]:
        """Return the squared distances, and the sum of squared lengths that limits their precision."""
        left, right = self.points.left[self.rows], self.points.right[self.columns]
        return left @ right.mT, torch.add(left[:, :1], right[:, -1])

    def _told(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the squared distances, and row and column of those that a product cannot tell."""
        squared, lengths = self._product()
        near = torch.logical_not(squared >= lengths.mul_(TOO_CLOSE))  # asked so that a NaN is near too
        return squared, torch.nonzero(at_diagonal(near, self._diagonal, False), as_tuple=True)

    def _add_one_by_one(
        self,
        slopes: Tensor,
        row: Tensor,
        column: Tensor,
        of_first: Tensor | None,
        of_second: Tensor | None,
        start: int,
    ) -> None:
        moving = torch.nonzero(slopes).squeeze(1)
        slopes, row, column = slopes[moving].unsqueeze(1), row[moving], column[moving]
        for strip, differences in self._differences(row, column + start):
            moves = differences.mul_(slopes[strip])
            if of_first is not None:
                of_first.index_add_(0, row[strip], moves)
            if of_second is not None:
                of_second.index_add_(0, column[strip], moves, alpha=-1)

    def _differences(self, row: Tensor, column: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield a strip of pairs of the block at a time, and their differences."""
        first, second = self.points.first[self.rows], self.points.second[self.columns]
        step = max(1, STRIP // max(1, first.shape[1]))
        for start in range(0, len(row), step):
            strip = slice(start, start + step)
            yield strip, first.index_select(0, row[strip]) - second.index_select(0, column[strip])


def at_diagonal(values: Tensor, start: int | Tensor | None, value: float) -> Tensor:
    """Set the entries of a block where a point meets itself, from a column of its first row on, or at that of each row
    ``(B,)``, if any."""
    if isinstance(start, Tensor):
        return values.scatter_(1, start.unsqueeze(1), value)
    if start is not None:
        values[:, start : start + len(values)].fill_diagonal_(value)
    return values


def measured(squared: Tensor, measure: str) -> Tensor:
    """Turn squared distances into what is measured, in place."""
    if measure == "euclidean":
        return squared.sqrt_()
    return squared.mul_(0.5) if measure == "cosine" else squared


def augmented(
    first: Tensor, second: Tensor | None, measure: str, centre: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return matrices whose product is the squared distance: [|a|^2, -2a, 1] and [1, b, |b|^2].

    Where angles are meant the squares of rows of zeros are 1 too.

    Args:
        first, second: points ``(N, D)`` and ``(M, D)``; ``None`` is the first.
        measure: of distances, see :class:`losses.ops.tiles.blocks.Tiles`.
        centre: ``(D,)``, from which both are measured; ``None`` is 0.
    """
    points, others = first, first if second is None else second
    left, right = (part.new_empty(len(part), part.shape[1] + 2) for part in (points, others))
    points, others = left[:, 1:-1].copy_(points), right[:, 1:-1].copy_(others)
    if centre is not None:
        points.sub_(centre)
        others.sub_(centre)
    for squares, part in ((left[:, 0], points), (right[:, -1], others)):
        torch.linalg.vecdot(part, part, out=squares)
        if measure == "cosine":
            squares.masked_fill_(squares == 0, 1)
    points.mul_(-2)
    left[:, -1], right[:, 0] = 1, 1
    return left, right
