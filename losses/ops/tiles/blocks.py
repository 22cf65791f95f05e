"""All pairs of two sets of points, a block of rows at a time, with the gradient taken on the way.

A loss over all pairs needs the N x M matrix of their distances or similarities, but never the whole of it at once: the
value adds up over blocks of rows, and so does the gradient. A *tiled function* goes through the :class:`Tiles` of such
a matrix, sums what the loss sums and hands every block's derivative back with :meth:`Tile.accumulate_gradient`.
:mod:`losses.ops.tiles.differentiable` makes the result differentiable. Memory is that of the points and of a few
blocks.

Distances are exact where it matters: see :mod:`losses.ops.distances`. Blocks in which points nearly coincide, or whose
squares overflow, are computed again, forward and backward: see :mod:`losses.ops.tiles.exact`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.precision import accumulation_dtype
from losses.core.torch_private import may_read
from losses.ops.distances import length, squares_of_anchors
from losses.ops.tiles.exact import TOO_CLOSE, ExactBlock, ExactPoints, at_diagonal, augmented, measured
from losses.ops.tiles.sizes import sizes

BUFFERS = 5  # of the size of a block, that a tiled function may ask for
FEW_BUFFERS = 3  # likewise, where blocks are higher for it
STRIPS = 2  # of rows, in which a symmetric block is made
LONG = 256  # coordinates of points from which that takes less time than the whole product
SMALLEST = 1e-32  # squared distance below which float32 runs out of digits
# a squared distance below this fraction of the points' squared lengths has lost more than 1e-4 of itself in float32
CLOSE = 1e-3


class Tiles:
    """The blocks of rows of a matrix ``(N, M)`` of distances or similarities.

    Args:
        first: the rows ``(N, D)``.
        second: the columns ``(M, D)``; ``None`` compares the first with itself, and no point with its own self: there
            the distance is infinite and the similarity minus infinite.
        measure: ``"euclidean"``, ``"squared_euclidean"``, ``"cosine"`` (1 - the cosine) or ``"similarity"`` (the
            cosine).
        scale: multiplies a similarity.
        upper: only the columns from the first row of a block on, so that every pair of a set with itself comes once.
        rows: order to take the rows in.
        columns: order to take the columns in.
        place: of rows that are a part of the columns, the column of each ``(N,)``, both in these orders. As in a set
            with itself, none is compared with its own self.
        blocks: of rows; by default of a size that suits the machine.
        outputs: how many sums are made.
        few_buffers: whether a tiled function asks for no more than two of the size of a block, beside its values; by
            default one of similarities is taken to, and one of distances not.
        dtype: to compute in; by default that of the first.
        differentiable: whether the gradients of the first and of the second will be asked for.
    """

    def __init__(
        self,
        first: Tensor,
        second: Tensor | None,
        measure: str,
        *,
        scale: float = 1.0,
        upper: bool = False,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        place: Tensor | None = None,
        blocks: Sequence[slice] | None = None,
        outputs: int = 1,
        few_buffers: bool | None = None,
        dtype: torch.dtype | None = None,
        differentiable: tuple[bool, bool] = (False, False),
    ) -> None:
        self.itself, self.measure, self.scale, self.upper = second is None, measure, scale, upper
        self.differentiable = any(differentiable)
        self.follows = (True, True) if self.itself else differentiable
        self.row_order, self.column_order, self.place = rows, columns, place
        self._given = first, second
        dtype = dtype or first.dtype
        self.first, self.lengths = self._taken(first, rows, dtype)
        self.second, self.other_lengths = (
            (self.first, self.lengths) if second is None else self._taken(second, columns, dtype)
        )
        self.reads = may_read(first)
        self.height, self.width = len(self.first), len(self.second)
        size, per_row = sizes(), max(1, self.width)
        few = measure == "similarity" if few_buffers is None else few_buffers
        self.buffers = FEW_BUFFERS if few else BUFFERS
        if on_cpu(first):
            fast = max(size.rows_for_speed * (2 if few else 1), size.elements_in_cache // per_row)
            step = max(size.rows, min(fast, size.elements // per_row))
        else:
            step = max(size.rows_on_accelerator, size.elements_on_accelerator // per_row)
        step = max(1, min(self.height, step))
        if self.height * self.width <= size.one_block:
            step = max(1, self.height)
        self.blocks = blocks or list(rows_of_blocks(self.height, step, upper=upper and measure == "similarity"))
        self.largest = max((self._elements(block) for block in self.blocks), default=0)
        self.outputs = outputs
        self._memory: Tensor | None = None
        self._exact_points: ExactPoints | None = None
        if measure == "similarity":
            self.left, self.right = self.first, self.second
            self.ahead, self.behind = self.second, self.first
        else:
            self._prepare_distances()
        if self.differentiable:
            width = self.ahead.shape[1]
            self.of_first = self.first.new_zeros(outputs, self.height if self.follows[0] else 0, width)
            self.of_second = self.of_first
            if not self.itself:  # the second may be large, as a memory is, and nobody ask for its gradient
                self.of_second = self.first.new_zeros(outputs, self.width if self.follows[1] else 0, width)

    @property
    def is_one_block(self) -> bool:
        """Whether a set meets itself in a single block."""
        return self.itself and len(self.blocks) == 1

    def __iter__(self) -> Iterator[Tile]:
        for rows in self.blocks:
            yield Tile(self, rows)

    def scratch(self, number: int, rows: int, columns: int) -> Tensor:
        """Return a buffer in the shape of a block; the same memory for every block."""
        # in one piece: the allocator keeps it for the next call, where it would hand back many smaller ones
        if self._memory is None:
            self._memory = self.first.new_empty(self.buffers, self.largest)
        return self._memory[number, : rows * columns].view(rows, columns)

    def release(self) -> None:
        """Hand the buffers back, of which a next walk through the blocks gets new ones."""
        self._memory = None

    def columns_of(self, rows: slice) -> slice:
        """Return the columns of the block of some rows."""
        return slice(rows.start if self.upper else 0, self.width)

    def _elements(self, rows: slice) -> int:
        columns = self.columns_of(rows)
        return int((rows.stop - rows.start) * (columns.stop - columns.start))

    def squares_of_rows(self) -> Tensor:
        """Return the squared length of every row from the centre of most columns ``(N, 1)``; 1 of angles."""
        first, second = self._given
        squares = squares_of_anchors(first, first if second is None else second, self.measure)
        return squares if self.row_order is None else squares.index_select(0, self.row_order)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients ``(K, N, D)`` and ``(K, M, D)`` of the sums, each ``None`` where none was asked for; the
        second also where a set met itself."""
        if not self.differentiable:
            return None, None
        exactly = (None, None) if self._exact_points is None else self._exact_points.gradients()
        of_first = of_second = None
        if self.follows[0]:
            of_first = self._gradient(self.of_first, self.first, self.lengths, exactly[0], self.row_order)
        if self.follows[1] and not self.itself:
            of_second = self._gradient(self.of_second, self.second, self.other_lengths, exactly[1], self.column_order)
        return of_first, of_second

    def _gradient(
        self, sums: Tensor, points: Tensor, lengths: Tensor | None, exactly: Tensor | None, order: Tensor | None
    ) -> Tensor:
        """Return what was added up for every point as its gradient, in the order in which the points came."""
        if self.measure == "similarity":
            gradient = sums
        else:  # a derivative w in the direction a - b adds [w, w b]
            gradient = sums[..., 1:].neg_().addcmul_(sums[..., :1], points)
            if exactly is not None:
                gradient += exactly
        if lengths is not None:  # turning a point changes its angles, moving it outwards does not
            outwards = torch.linalg.vecdot(gradient, points).unsqueeze(-1)
            gradient.addcmul_(outwards, points, value=-1).mul_(self.scale / lengths)
        if order is None:
            return gradient
        # the points, a copy in that order, have had their use: fresh memory would cost more than what is written to it
        free = points.unsqueeze(0) if len(gradient) == 1 and points.is_contiguous() else torch.empty_like(gradient)
        return free.index_copy_(1, order, gradient)

    def _taken(self, points: Tensor, order: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return points in an order, and where angles are measured at length 1, with the lengths ``(N, 1)`` they had
        (or 1 for 0)."""
        points = points if order is None else points.index_select(0, order)
        if self.measure.endswith("euclidean"):
            return points.to(dtype), None
        lengths = length(points)
        lengths = lengths.masked_fill_(lengths == 0, 1).to(dtype)
        if order is not None and points.dtype is dtype:  # a copy of the caller's points
            return points.div_(lengths), lengths
        return points / lengths, lengths

    def _prepare_distances(self) -> None:
        """Prepare matrices whose product is the squared distance: [|a|^2, -2a, 1] and [1, b, |b|^2]."""
        # a translation changes no distance, and small numbers are rounded less
        centre = None
        if self.width and self.measure != "cosine":
            centre = self.second.mean(0, dtype=accumulation_dtype(self.second)).to(self.second.dtype)
        self.left, self.right = augmented(self.first, None if self.itself else self.second, self.measure, centre)
        self.ahead = self.right[:, :-1]  # [1, b]
        self.second = self.ahead[:, 1:]  # the same numbers, once
        if self.itself:
            self.first = self.second
        elif centre is not None:
            self.first = self.first - centre
        self.behind = self.ahead
        if self.follows[1] and not self.itself:
            self.behind = torch.cat([self.left[:, -1:], self.first], 1)
        self.first_norm, self.second_norm = self.left[:, 0], self.right[:, -1]
        self.closeness = TOO_CLOSE if self.left.dtype is accumulation_dtype(self.left) else CLOSE
        self.longest = self.second_norm.amax() if self.width else self.second_norm.sum()

    def exact_points(self) -> ExactPoints:
        """Return the points in the precision of exact blocks."""
        if self._exact_points is None:
            first, second = self._given  # and not what is left of them after float32 has taken their centre away
            dtype = accumulation_dtype(first)
            first, _ = self._taken(first, self.row_order, dtype)
            second = None if second is None else self._taken(second, self.column_order, dtype)[0]
            sides = (self.left, self.right) if self.left.dtype is dtype else None
            self._exact_points = ExactPoints(
                *(first, second, self.measure),
                outputs=self.outputs,
                reads=self.reads,
                follows=self.follows,
                sides=sides,
            )
        return self._exact_points


class Tile:
    """One block: ``values`` of some rows and columns, which may be overwritten, and the way back for its
    derivative."""

    def __init__(self, tiles: Tiles, rows: slice) -> None:
        self.tiles, self.rows = tiles, rows
        self.columns = tiles.columns_of(rows)
        self._diagonal: int | Tensor | None = rows.start - self.columns.start if tiles.itself else None
        if tiles.place is not None:
            self._diagonal = tiles.place[rows]
        left, right = tiles.left[rows], tiles.right[self.columns]
        self.values = tiles.scratch(0, len(left), len(right))
        # a matrix that is symmetric is multiplied out above its diagonal and copied below
        halved = tiles.is_one_block and left.shape[1] >= LONG
        step = max(1, -(-len(left) // (STRIPS if halved else 1)))
        for start in range(0, len(left), step):
            known = start if halved else 0
            strip = self.values[start : start + step, known:]
            torch.addmm(strip, left[start : start + step], right[known:].mT, beta=0, alpha=tiles.scale, out=strip)
            if halved:
                self.values[start + step :, start : start + step].copy_(strip[:, step:].mT)
        self.exact: ExactBlock | None = None
        if tiles.measure == "similarity":
            self.at_itself(self.values, -torch.inf)
        else:
            self._measure()

    def scratch(self, number: int) -> Tensor:
        """Return a buffer in the shape of the block: 1, 2, ..."""
        return self.tiles.scratch(number, *self.values.shape)

    def at_itself(self, values: Tensor, value: float, columns: slice | None = None) -> None:
        """Set the entries of a block, or of those columns that hold them, where a point of a set meets itself."""
        place = self._diagonal
        at_diagonal(values, place if columns is None or place is None else place - columns.start, value)

    def itself(self) -> Tensor:
        """Return the entries of ``values`` where a point of a set meets itself ``(B,)``, to be written to."""
        assert isinstance(self._diagonal, int)
        return self.values[:, self._diagonal : self._diagonal + len(self.values)].diagonal()

    def accumulate_gradient(
        self, gradient: Tensor, output: int = 0, columns: slice | None = None, *, symmetric: bool = False
    ) -> None:
        """Add the derivative of a sum by the values of this block, which is overwritten, to the gradient of the points.

        Args:
            gradient: derivative by the values, 0 where a point meets itself; distances are still in ``values``.
            output: number of the sum.
            columns: of the block, if the derivative is 0 elsewhere.
            symmetric: a set meets itself in one block, and the derivative is that of each pair, written down in both
                its places.
        """
        tiles, rows = self.tiles, self.rows
        columns = columns or slice(0, self.values.shape[1])
        there = slice(self.columns.start + columns.start, self.columns.start + columns.stop)
        if self.exact is not None:
            if symmetric:
                gradient.triu_()
            self.exact.accumulate_gradient(gradient, output, columns)
            return
        if tiles.measure == "euclidean":
            gradient.div_(self.values[:, columns])
        elif tiles.measure == "squared_euclidean":
            gradient *= 2
        if tiles.itself and gradient.shape == (tiles.width, tiles.height):
            if not symmetric:
                # the values have had their use; unless they were turned into their own derivative
                free = self.values if gradient.data_ptr() != self.values.data_ptr() else self.scratch(tiles.buffers - 1)
                gradient = free.copy_(gradient.mT).add_(gradient)
            tiles.of_first[output].addmm_(gradient, tiles.ahead)
            return
        if tiles.follows[0]:
            tiles.of_first[output, rows].addmm_(gradient, tiles.ahead[there])
        if tiles.follows[1]:
            tiles.of_second[output, there].addmm_(gradient.mT, tiles.behind[rows])

    def accumulate_gradient_at(self, gradient: Tensor, column: Tensor, output: int = 0) -> None:
        """Add the derivative of a sum by some values of every row ``(B, P)``, 0 where none is meant, at their columns
        ``(B, P)``."""
        tiles = self.tiles
        numbers = gradient.numel() * tiles.ahead.shape[1]
        if self.exact is not None or any(tiles.follows[1:]) or numbers > sizes().elements_in_cache:
            everywhere = torch.zeros_like(self.values).scatter_add_(1, column, gradient)
            self.accumulate_gradient(everywhere, output)
            return
        if tiles.measure == "euclidean":
            gradient = gradient / self.values.gather(1, column)
        elif tiles.measure == "squared_euclidean":
            gradient = gradient * 2
        others = tiles.ahead[column + self.columns.start]
        tiles.of_first[output, self.rows] += (gradient.unsqueeze(1) @ others).squeeze(1)

    def _measure(self) -> None:
        """Turn squared distances into distances, exactly where some of them are too small or too large for the
        precision at hand."""
        tiles = self.tiles
        self.at_itself(self.values, torch.inf)
        if tiles.reads and not self._holds_close_pairs():
            measured(self.values, tiles.measure)
            return
        self.exact = ExactBlock(tiles.exact_points(), self.rows, self.columns, self._diagonal)
        self.values.copy_(self.exact.values)

    def _holds_close_pairs(self) -> bool:
        tiles, norm = self.tiles, self.tiles.first_norm[self.rows]
        if not self.values.numel() or bool(
            (self.values.amin(1) > (norm + tiles.longest) * tiles.closeness + SMALLEST).all()
        ):
            return False
        limits = (
            torch.add(norm.unsqueeze(1), tiles.second_norm[self.columns], out=self.scratch(1))
            .mul_(tiles.closeness)
            .add_(SMALLEST)
        )
        return not bool((self.values > limits).all())  # asked so that a NaN, from squares that overflow, is close too


def rows_of_blocks(height: int, step: int, *, upper: bool) -> Iterator[slice]:
    """Yield the rows of every block, so many in the first; above the diagonal, where blocks become narrower, the later
    ones are higher instead, up to half their width.

    >>> [rows.stop for rows in rows_of_blocks(100, 10, upper=False)]
    [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    >>> [rows.stop for rows in rows_of_blocks(100, 10, upper=True)]
    [10, 21, 33, 47, 65, 82, 92, 100]
    """
    start = 0
    while start < height:
        left = height - start
        rows = max(step, min(step * height // left, left // 2)) if upper else step
        yield slice(start, min(start + rows, height))
        start += rows
