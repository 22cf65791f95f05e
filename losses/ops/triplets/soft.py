"""The soft margin over all triplets of a labelled batch, without a pass for every positive.

Of one anchor, sum over p of log(1 + exp(d_ap - v)) is a smooth function of v alone. A Chebyshev polynomial of r
coefficients through r points equals it on the range of the anchor's negatives to within rounding, where r is about a
dozen for embeddings of length 1: the function is analytic up to a distance of pi from the real axis, so the error falls
like rho^-r with rho = pi / h + sqrt(1 + (pi / h)^2) on a range of width 2 h. The sum over all negatives then needs r
passes over the distances, however many positives there are. Where distances range so widely that r is in the hundreds,
:mod:`losses.ops.triplets.soft_wide` takes over.

Source: L. N. Trefethen, Approximation Theory and Approximation Practice, 2013, theorem 8.2.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from losses.ops.numerics.log_space import softplus
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import AnchorBlock, anchor_blocks
from losses.ops.triplets.soft_wide import (
    NODES,
    POINTS,
    REACHES,
    RowSlopes,
    by_cells,
    by_neighbours,
    cell_degrees,
    cell_number,
    neighbours,
)
from losses.ops.triplets.sums import no_triplets

SAMPLED = 8  # rows of a block whose neighbours are counted
NARROW = 16  # degrees of a polynomial beside which nothing else is worth trying


def tiled_soft(tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
    """Return the sums of log(1 + exp(d_ap - d_an)) over all triplets, weighted by anchor, over blocks of anchors."""
    totals = no_triplets(classes, weight)
    for block in anchor_blocks(tiles, classes, weight):
        if not block.column.numel():
            continue
        positives = block.positives.masked_fill(~block.exists, -torch.inf)  # log(1 + exp(-inf)) = 0
        cost, of_negatives, of_positives = row_slopes(block, positives)
        totals.cost.add_(block.total(cost))
        if tiles.differentiable:
            block.restore_own()
            block.accumulate_gradient(of_negatives, of_positives)
    return totals.over("all")  # a soft margin always costs something


def row_slopes(block: AnchorBlock, positives: Tensor) -> RowSlopes:
    """Return the cost of every row and its derivatives in the way that takes the least time; the positives are -inf
    where none exists."""
    lowest, half = ranges(block)
    degrees = degrees_for(half)
    highest = torch.minimum(lowest + 2 * half, positives.amax(1, keepdim=True) + REACHES[half.dtype]).maximum(lowest)
    endless = block.tile.exact is not None and bool((positives == torch.inf).any())
    way = "positive" if endless else quickest(block, positives, degrees, float((highest - lowest).amax()))
    if way == "polynomial":
        return by_polynomial(block, positives, lowest, half, degrees)
    if way == "cells":
        return by_cells(block, positives, lowest, highest)
    if way == "neighbours":
        block.fill_own(torch.finfo(positives.dtype).max)
        return by_neighbours(block, positives)
    block.fill_own(torch.inf)
    return by_positive(block, positives)


def quickest(block: AnchorBlock, positives: Tensor, degrees: int, extent: float) -> str:
    """Return which way takes the least time, as it was measured on a CPU, in nanoseconds.

    Args:
        block: of distances, finite at the anchor's own class.
        positives: ``(B, P)``, -inf where none exists.
        degrees: that a polynomial needs.
        extent: of the negatives that matter.
    """
    (rows, columns), each, operation = block.values.shape, positives.shape[1], 4000
    times: dict[str, float] = {
        "positive": each * (20 * columns * rows + 5 * operation),
        "polynomial": degrees * ((4 * columns + 10 * each) * rows + 9 * operation),
    }
    if degrees > NARROW and math.isfinite(extent):
        points, number = cell_degrees(positives.dtype), cell_number(extent, positives.dtype)
        parts = max(1, rows * columns / POINTS, rows * number * points / NODES)
        within, between = 12 * points * (columns + each) * rows, 50 * points * number * rows
        times["cells"] = within + between + parts * (100 + 10 * points) * operation
        if min(times.values()) > 600 * columns * rows + 100 * operation:
            block.fill_own(torch.finfo(positives.dtype).max)
            some = slice(None, None, max(1, rows // SAMPLED))
            near = neighbours(block.values[some], positives[some].sort(1).values)[1].sum(1).float().mean()
            times["neighbours"] = (250 * columns + 30 * float(near)) * rows + 100 * operation
    return min(times, key=times.__getitem__)


def by_positive(block: AnchorBlock, positives: Tensor) -> RowSlopes:
    """Return the cost of every row ``(B, 1)`` and its derivatives by the distances and by the positives: a pass for
    each positive."""
    cost, slope = positives.new_zeros(len(positives), 1), block.scratch(1).zero_()
    of_positives, difference = torch.empty_like(positives), block.scratch(2)
    for place in range(positives.shape[1]):
        torch.sub(positives[:, place : place + 1], block.values, out=difference)
        if block.tile.exact is not None:  # where a positive can be infinitely far too
            block.fill_own(-torch.inf, difference)
        cost += softplus(difference).sum(1, keepdim=True)
        of_positives[:, place] = difference.sigmoid_().sum(1)
        slope -= difference
    return cost, slope, of_positives


def by_polynomial(block: AnchorBlock, positives: Tensor, lowest: Tensor, half: Tensor, degrees: int) -> RowSlopes:
    """Return what :func:`by_positive` does, by polynomials of so many degrees on [lowest, lowest + 2 half]: a pass for
    each degree."""
    degree = torch.arange(degrees, dtype=half.dtype, device=half.device)
    angles = (degree + 0.5) * (math.pi / degrees)
    # from values at the nodes to coefficients
    transform = torch.cos(degree.unsqueeze(1) * angles) * (2 / degrees)
    transform[0] /= 2
    nodes = lowest + half + half * angles.cos()
    costs, slopes = torch.empty_like(nodes), torch.empty_like(nodes)
    for node in range(degrees):
        difference = positives - nodes[:, node : node + 1]
        costs[:, node] = softplus(difference).sum(1)
        slopes[:, node] = -difference.sigmoid_().sum(1)

    place = torch.sub(block.values, lowest + half, out=block.scratch(2)).div_(half).clamp_(-1, 1)
    # there T_l is (-1)^l: counted with the rest, and taken off again
    place[:, block.band].masked_fill_(block.own, -1)
    moments, slope = chebyshev(block, place, slopes @ transform.mT)
    moments -= block.own.sum(1, keepdim=True) * (1 - 2 * (degree % 2))
    slope[:, block.band].masked_fill_(block.own, 0)

    at_nodes = moments @ transform  # how many of the negatives stand at each node
    of_positives = torch.zeros_like(positives)
    for node in range(degrees):
        of_positives += (positives - nodes[:, node : node + 1]).sigmoid_() * at_nodes[:, node : node + 1]
    return (costs * at_nodes).sum(1, keepdim=True), slope, of_positives


def chebyshev(block: AnchorBlock, place: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum(T_l) over every row ``(B, r)``, and the polynomial with the given coefficients ``(B, r)`` at every
    place.

    The recurrence T_(l+1) = 2 x T_l - T_(l-1) runs in two buffers; each holds its polynomial up to a sign, which is
    kept beside it.
    """
    moments = torch.empty_like(coefficients)
    moments[:, 0] = place.shape[1]
    moments[:, 1] = place.sum(1)
    value = torch.mul(place, coefficients[:, 1:2], out=block.scratch(1)).add_(coefficients[:, :1])
    before, now = block.scratch(3).fill_(1), block.scratch(4).copy_(place)
    twice, sign_before, sign = place.mul_(2), 1, 1
    for degree in range(2, coefficients.shape[1]):
        before.addcmul_(twice, now, value=-sign_before * sign)
        before, now, sign_before, sign = now, before, sign, -sign_before
        moments[:, degree] = sign * now.sum(1)
        value.addcmul_(now, coefficients[:, degree : degree + 1], value=sign)
    return moments, value


def ranges(block: AnchorBlock) -> tuple[Tensor, Tensor]:
    """Return the least distance of every row to a negative and half the width of their range, each ``(B, 1)``; 0
    without negatives. The entries of the own class are overwritten."""
    lowest = block.fill_own(torch.inf).amin(1, keepdim=True)
    lowest.masked_fill_(lowest == torch.inf, 0)
    own_values = block.values[:, block.band]
    own_values.copy_(torch.where(block.own, lowest, own_values))
    half = (block.values.amax(1, keepdim=True) - lowest) / 2
    return lowest, half.clamp_(min=torch.finfo(half.dtype).eps)


def degrees_for(half: Tensor) -> int:
    """Return how many degrees reach the precision of the numbers on the widest range."""
    rate = math.asinh(math.pi / float(half.amax()))
    if not rate > 1e-6:  # also where the range is infinite
        return sys.maxsize
    return max(2, math.ceil(-math.log(torch.finfo(half.dtype).eps) / rate))
