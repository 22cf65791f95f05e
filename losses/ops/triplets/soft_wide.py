"""The soft margin over all triplets of a labelled batch whose distances range widely, where one polynomial would need
hundreds of coefficients.

Far from 0, log(1 + exp(x)) is x or 0, so only positives and negatives that lie near each other need more than counting.

:func:`by_cells` cuts the range into cells. The positives in one cell act on the negatives in another as a few weights
at its Chebyshev points would, and so do the negatives. What happens between the points of two cells depends only on how
far apart the cells are. From the second next cell on, log(1 + exp(x)) is max(x, 0) and a few terms of the series of
log(1 + exp(-|x|)), each a product of what belongs to one cell, to the other, and to their distance.

:func:`by_neighbours` is for ranges with more cells than points: all positives within reach of a negative meet it one by
one, and the rest are counted.

Source: L. Greengard, V. Rokhlin, A fast algorithm for particle simulations, 1987, doi:10.1016/0021-9991(87)90140-9;
with interpolation, W. Fong, E. Darve, The black-box fast multipole method, 2009, doi:10.1016/j.jcp.2009.08.031.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.ops.numerics.log_space import softplus
from losses.ops.tiles.rows import AnchorBlock
from losses.ops.triplets.definitions import top
from losses.ops.triplets.hinge import counts

POINTS = 1 << 15  # of rows that are placed in cells at a time: what is made of them fits into a cache
NODES = 1 << 16  # of cells that are in memory at a time
PAIRS = 1 << 15  # of neighbours at a time
WIDTHS = {torch.float32: 2.0, torch.float64: 3.0}  # of a cell
REACHES = {torch.float32: 12.0, torch.float64: 24.0}  # where exp(-x) is nothing beside what an anchor costs

RowSlopes = tuple[Tensor, Tensor, Tensor]
"""The cost of every row ``(B, 1)`` and its derivatives by the distances ``(B, M)`` and by the positives ``(B, P)``."""


def cell_degrees(dtype: torch.dtype) -> int:
    """Return how many points have to stand for a cell."""
    return math.ceil(-math.log(torch.finfo(dtype).eps) / math.asinh(2 * math.pi / WIDTHS[dtype]))


def cell_number(extent: float, dtype: torch.dtype) -> int:
    """Return how many cells cover a range of negatives, and what is beyond it as far as it matters."""
    return math.ceil((extent + 2 * REACHES[dtype]) / WIDTHS[dtype]) + 1


class Grid:
    """The points that stand for cells, and what happens between those of two.

    Args:
        like: whose precision is reached.
    """

    def __init__(self, like: Tensor) -> None:
        self.width, self.reach, self.degrees = WIDTHS[like.dtype], REACHES[like.dtype], cell_degrees(like.dtype)
        digits = -math.log(torch.finfo(like.dtype).eps)
        degree = torch.arange(self.degrees, dtype=like.dtype, device=like.device)
        angles = (degree + 0.5) * (math.pi / self.degrees)
        self.points = self.width / 2 * (1 + angles.cos())
        # from values at the points to coefficients; from sums of Chebyshev polynomials to weights of the points
        self.transform = torch.cos(degree.unsqueeze(1) * angles) * (2 / self.degrees)
        self.transform[0] /= 2

        term = torch.arange(1, math.ceil(digits / self.width) + 1, dtype=like.dtype, device=like.device).unsqueeze(1)
        self.fading = torch.exp(-term * self.width).unsqueeze(2)  # from cell to cell
        from_start, to_end = torch.exp(-term * self.points), torch.exp(-term * (self.width - self.points))
        self.from_start, self.to_end, slope = from_start, to_end, 1 - 2 * ((term - 1) % 2)
        # differences to the points of the cell before, of the same and of the one after
        apart = torch.cat([self.points.unsqueeze(1) - self.points + shift * self.width for shift in (1, 0, -1)], 1)
        self.costs = torch.cat([softplus(apart), (slope / term * from_start).mT, (slope / term * to_end).mT], 1)
        self.slopes = torch.cat([apart.sigmoid(), -(slope * from_start).mT, (slope * to_end).mT], 1)
        self.negative_slopes = torch.cat([apart.neg().sigmoid(), (slope * from_start).mT, -(slope * to_end).mT], 1)

    def features(self, weights: Tensor) -> Tensor:
        """Return what a cell feels of the weights ``(r, B, C)`` of all cells: of the three next ones each, and of those
        before and after them, term by term, what is left on the way."""
        before, after = (
            self._faded((side @ weights.flatten(1)).view(-1, *weights.shape[1:]), way)
            for side, way in ((self.to_end, 1), (self.from_start, -1))
        )
        return torch.cat([shifted(weights, 1), weights, shifted(weights, -1), before, after])

    def _faded(self, sums: Tensor, way: int) -> Tensor:
        """Return the sums ``(n, B, C)`` of all cells from the second next one on, each faded by how far it is away."""
        result = shifted(sums, 2 * way).mul_(self.fading)
        for power in (1, 2, 4, 8):  # (1 + f)(1 + f^2)(1 + f^4)(1 + f^8) = 1 + f + ... + f^15, and there is no more
            left = result[: math.ceil(len(result) / power)]  # of later terms, so far away, nothing is left
            left += shifted(left, power * way).mul_(self.fading[: len(left)] ** power)
        return result

    def moments(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the weights ``(r, B, C)`` of every cell ``(B, C)``, and of where they stand times them."""
        weights = weights.double()
        starts = torch.arange(weights.shape[2], dtype=weights.dtype, device=weights.device) * self.width
        count = weights.sum(0)
        return count, torch.tensordot(self.points.double(), weights, 1) + count * starts


class Placed:
    """Points of every row in cells ``(B, K)``; those that are left out are in one cell more.

    Args:
        values: of the points.
        origin: of the cells of every row ``(B, 1)``.
        absent: which are left out.
        grid: the cells.
        number: how many there are.
    """

    def __init__(self, values: Tensor, origin: Tensor, absent: Tensor, grid: Grid, number: int) -> None:
        position = torch.sub(values, origin).div_(grid.width)
        self.cell = position.long().clamp_(0, number - 1)
        self.place = position.sub_(self.cell).mul_(2).sub_(1)
        self.cell.masked_fill_(absent, number)
        self.grid, self.number = grid, number

    def weights(self) -> Tensor:
        """Return the weights of the points of cells ``(r, B, C)`` that act as these points do on all that is smooth."""
        sums = self.place.new_zeros(self.grid.degrees, len(self.place), self.number + 1)
        for total, term in zip(sums, self._terms(), strict=True):
            total.scatter_add_(1, self.cell, term)
        weights: Tensor = torch.tensordot(self.grid.transform.mT, sums[:, :, :-1], 1)
        return weights

    def interpolated(self, values: Tensor) -> Tensor:
        """Return what is known at the points of cells ``(r, B, C)`` at these points ``(B, K)``; 0 where left out."""
        coefficients = F.pad(torch.tensordot(self.grid.transform, values, 1), (0, 1))
        result = torch.zeros_like(self.place)
        for coefficient, term in zip(coefficients, self._terms(), strict=True):
            result.addcmul_(coefficient.gather(1, self.cell), term)
        return result

    def _terms(self) -> Iterator[Tensor]:
        """Yield the Chebyshev polynomials at every place."""
        before, now, twice = torch.ones_like(self.place), self.place.clone(), 2 * self.place
        for _ in range(self.grid.degrees):
            yield before
            before, now = now, before.neg_().addcmul_(twice, now)


def by_cells(block: AnchorBlock, positives: Tensor, lowest: Tensor, highest: Tensor) -> RowSlopes:
    """Return the cost of every row and its derivatives, in a time that hardly depends on how many positives there are.

    Args:
        block: of distances that are finite.
        positives: ``(B, P)``, -inf where none exists.
        lowest: distance of every row to a negative ``(B, 1)``.
        highest: distance of every row to a negative that matters ``(B, 1)``.
    """
    grid, number = Grid(positives), cell_number(float((highest - lowest).amax()), positives.dtype)
    cost, of_positives = torch.empty_like(lowest, dtype=torch.float64), torch.empty_like(positives)
    of_negatives = block.scratch(1)
    step = max(1, min(NODES // (number * grid.degrees), POINTS // block.values.shape[1]))
    for start in range(0, len(positives), step):
        rows = slice(start, start + step)
        origin, end = lowest[rows] - grid.reach, highest[rows] + grid.reach
        near = torch.minimum(positives[rows].clamp(min=origin), end)
        own = torch.zeros_like(block.values[rows], dtype=torch.bool)
        own[:, block.band] = block.own[rows]
        negatives = Placed(torch.minimum(block.values[rows], highest[rows]), origin, own, grid, number)
        others = Placed(near, origin, positives[rows] == -torch.inf, grid, number)
        cost[rows], on_negatives, on_others = between_cells(negatives.weights(), others.weights(), grid)
        # farther out a positive costs what it is farther
        beyond = (positives[rows] - near).clamp_(min=0).sum(1, keepdim=True, dtype=torch.float64)
        cost[rows] += beyond * (~own).sum(1, keepdim=True)
        # farther out the derivative by a negative fades: a squared distance multiplies it by how far away it is
        fading = torch.sub(highest[rows], block.values[rows]).clamp_(max=0).exp_()
        of_negatives[rows] = negatives.interpolated(on_negatives).neg_().mul_(fading)
        of_positives[rows] = others.interpolated(on_others)
    return cost, of_negatives, of_positives


def between_cells(negatives: Tensor, positives: Tensor, grid: Grid) -> RowSlopes:
    """Return the cost ``(B, 1)`` between weights at the points of cells ``(r, B, C)``, and the slopes there."""
    felt = grid.features(negatives)
    costs = torch.tensordot(grid.costs, felt, 1).mul_(positives).sum((0, 2), dtype=torch.float64)
    on_positives = torch.tensordot(grid.slopes, felt, 1)
    on_negatives = torch.tensordot(grid.negative_slopes, grid.features(positives), 1)
    # from the second next cell on there is the difference besides
    (count, where), (other_count, other_where) = grid.moments(negatives), grid.moments(positives)
    below, sum_below, above = shifted(count.cumsum(1), 2), shifted(where.cumsum(1), 2), other_count.flip(1).cumsum(1)
    costs += (other_where * below - other_count * sum_below).sum(1)
    on_positives += below.to(positives.dtype)
    on_negatives += shifted(above.flip(1), -2).to(positives.dtype)
    return costs.unsqueeze(1), on_negatives, on_positives


def shifted(values: Tensor, places: int) -> Tensor:
    """Return values moved by so many places along the last dimension, with 0 for what moves in."""
    kept = max(0, values.shape[-1] - abs(places))
    if places > 0:
        return F.pad(values[..., :kept], (values.shape[-1] - kept, 0))
    return F.pad(values[..., values.shape[-1] - kept :], (0, values.shape[-1] - kept))


def neighbours(negatives: Tensor, ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return from which on the sorted positives ``(B, P)`` lie within reach of every negative ``(B, M)``, and how many
    do."""
    start = torch.searchsorted(ordered, negatives - REACHES[ordered.dtype])
    return start, torch.searchsorted(ordered, negatives + REACHES[ordered.dtype], right=True) - start


def by_neighbours(block: AnchorBlock, positives: Tensor) -> RowSlopes:
    """Return the cost of every row and its derivatives by counting, and one by one for all positives that are within
    reach of a negative.

    Args:
        block: of distances, the greatest number at the anchor's own class.
        positives: ``(B, P)``, -inf where none exists.
    """
    of_negatives, below = counts(block.values, positives, block)
    centre, finite = top(positives), positives.masked_fill(positives == -torch.inf, 0)
    cost = (below * (finite - centre)).sum(1, keepdim=True, dtype=torch.float64)
    lack = torch.sub(block.values, centre, out=block.scratch(2))
    cost += lack.mul_(of_negatives).sum(1, keepdim=True, dtype=torch.float64)
    ordered, order = positives.sort(1)
    start, near = neighbours(block.values, ordered)
    excess = torch.zeros_like(ordered)
    step = max(1, PAIRS // max(1, int(near.sum(1).amax())))
    for first in range(0, len(ordered), step):
        rows = slice(first, first + step)
        cost[rows] += add_neighbours(
            block.values[rows], ordered[rows], start[rows], near[rows], of_negatives[rows], excess[rows]
        )
    return cost, of_negatives, below + torch.empty_like(below).scatter_(1, order, excess)


def add_neighbours(
    negatives: Tensor, positives: Tensor, start: Tensor, near: Tensor, of_negatives: Tensor, of_positives: Tensor
) -> Tensor:
    """Add what counting leaves of the slopes of negatives ``(B, M)`` and of positives ``(B, P)`` near them, and return
    what it leaves of the cost ``(B, 1)``."""
    near, rows = near.flatten(), torch.arange(len(start), device=near.device).unsqueeze(1)
    negative = torch.arange(near.numel(), device=near.device).repeat_interleave(near)
    # the first neighbour of each negative, less the place of its pair in the list
    offset = (start + rows * positives.shape[1]).flatten() - (near.cumsum(0) - near)
    positive = offset.index_select(0, negative) + torch.arange(len(negative), device=near.device)
    ahead = negatives.flatten().index_select(0, negative).sub_(positives.flatten().index_select(0, positive))
    faded = ahead.abs().neg_().exp_()
    slope = (faded / (faded + 1)).copysign_(ahead)  # what is not counted: sigmoid(-ahead) - (ahead < 0)
    of_negatives.view(-1).index_add_(0, negative, slope, alpha=-1)
    of_positives.view(-1).index_add_(0, positive, slope)
    ends = near.view_as(start).sum(1).cumsum(0)
    running = F.pad(faded.log1p_().cumsum(0, dtype=torch.float64), (1, 0)).index_select(0, F.pad(ends, (1, 0)))
    return running.diff().unsqueeze(1)
