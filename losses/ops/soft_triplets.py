"""The soft margin over all triplets of a labelled batch, without a pass for every positive.

Of one anchor, sum over p of log(1 + exp(d_ap - v)) is a smooth function of v alone. A Chebyshev polynomial of degree r
- 1 through r points equals it on the range of the anchor's negatives to within rounding, where r is about a dozen for
  embeddings of length 1:
the function is analytic up to a distance of pi from the real axis, so the error falls like rho^-r with
rho = pi / h + sqrt(1 + (pi / h)^2) on a range of width 2 h. The sum over all negatives then needs r passes over the
distances, however many positives there are.

Source: L. N. Trefethen, Approximation Theory and Approximation Practice, 2013, theorem 8.2.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from losses.ops.classes import Classes
from losses.ops.log_space import softplus
from losses.ops.tiles import Tile, Tiles
from losses.ops.triplets import nothing_yet, own_distances, restore, total

WORTH = 5  # degrees whose passes cost as much as the pass of one positive


def tiled_soft(tiles: Tiles, classes: Classes, weight: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return the sums of log(1 + exp(d_ap - d_an)) over all triplets, weighted by anchor, over blocks of anchors."""
    counted = nothing_yet(classes, weight)
    counted.active.add_(counted.triplets)  # a soft margin always costs something
    for tile in tiles:
        near = classes.near(tile)
        if not near.column.numel():
            continue
        positives = tile.values.gather(1, near.column).masked_fill_(~near.exists, -torch.inf)  # log(1 + exp(-inf)) = 0
        own, band = own_distances(tile, classes)
        lowest, half = ranges(tile, own, band)
        degrees = degrees_for(half)
        if degrees < WORTH * positives.shape[1]:
            cost, slope, near_slope = by_polynomial(tile, classes, positives, lowest, half, degrees)
        else:
            own.masked_fill_(band, torch.inf)
            cost, slope, near_slope = by_positive(tile, positives)
        counted.cost.add_(total(cost, tile, weight))
        if tiles.differentiable:
            restore(tile, own, band, near, positives)
            slope.scatter_add_(1, near.column, near_slope)
            tile.pull(slope if weight is None else slope.mul_(weight[tile.rows]))
    return counted.outputs()


def by_positive(tile: Tile, positives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cost of every row ``(B, 1)`` and its derivatives by the distances and by the positives: a pass for
    each positive."""
    cost, slope, near_slope = (
        positives.new_zeros(len(positives), 1),
        tile.scratch(1).zero_(),
        torch.empty_like(positives),
    )
    difference = tile.scratch(2)
    for place in range(positives.shape[1]):
        torch.sub(positives[:, place : place + 1], tile.values, out=difference)
        cost += softplus(difference).sum(1, keepdim=True)
        near_slope[:, place] = difference.sigmoid_().sum(1)
        slope -= difference
    return cost, slope, near_slope


def by_polynomial(
    tile: Tile, classes: Classes, positives: Tensor, lowest: Tensor, half: Tensor, degrees: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :func:`by_positive` does, by polynomials of so many degrees on [lowest, lowest + 2 half]: a pass for
    each degree."""
    degree = torch.arange(degrees, dtype=half.dtype, device=half.device)
    angles = (degree + 0.5) * (math.pi / degrees)
    transform = torch.cos(degree.unsqueeze(1) * angles) * (2 / degrees)  # from values at the nodes to coefficients
    transform[0] /= 2
    nodes = lowest + half + half * angles.cos()
    costs, slopes = torch.empty_like(nodes), torch.empty_like(nodes)
    for node in range(degrees):
        difference = positives - nodes[:, node : node + 1]
        costs[:, node] = softplus(difference).sum(1)
        slopes[:, node] = -difference.sigmoid_().sum(1)

    band = classes.band(tile)
    own = classes.own(tile, band)
    place = torch.sub(tile.values, lowest + half, out=tile.scratch(2)).div_(half).clamp_(-1, 1)
    place[:, band].masked_fill_(own, -1)  # there T_l is (-1)^l: counted with the rest, and taken off again
    moments, slope = chebyshev(tile, place, slopes @ transform.mT)
    moments -= own.sum(1, keepdim=True) * (1 - 2 * (degree % 2))
    slope[:, band].masked_fill_(own, 0)

    shares = moments @ transform  # how many of the negatives stand at each node
    near_slope = torch.zeros_like(positives)
    for node in range(degrees):
        near_slope += (positives - nodes[:, node : node + 1]).sigmoid_() * shares[:, node : node + 1]
    return (costs * shares).sum(1, keepdim=True), slope, near_slope


def chebyshev(tile: Tile, place: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum(T_l) over every row ``(B, r)``, and the polynomial with the given coefficients ``(B, r)`` at every
    place.

    The recurrence T_(l+1) = 2 x T_l - T_(l-1) runs in two buffers; each holds its polynomial up to a sign, which is
    kept beside it.
    """
    moments = torch.empty_like(coefficients)
    moments[:, 0] = place.shape[1]
    moments[:, 1] = place.sum(1)
    value = torch.mul(place, coefficients[:, 1:2], out=tile.scratch(1)).add_(coefficients[:, :1])
    before, now = tile.scratch(3).fill_(1), tile.scratch(4).copy_(place)
    twice, sign_before, sign = place.mul_(2), 1, 1
    for degree in range(2, coefficients.shape[1]):
        before.addcmul_(twice, now, value=-sign_before * sign)
        before, now, sign_before, sign = now, before, sign, -sign_before
        moments[:, degree] = sign * now.sum(1)
        value.addcmul_(now, coefficients[:, degree : degree + 1], value=sign)
    return moments, value


def ranges(tile: Tile, own: Tensor, band: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least distance of every row to a negative and half the width of their range, each ``(B, 1)``; 0
    without negatives.

    ``own`` is the part of the block that holds positives, where ``band``; it is overwritten there.
    """
    own.masked_fill_(band, torch.inf)
    lowest = tile.values.amin(1, keepdim=True)
    lowest.masked_fill_(lowest == torch.inf, 0)
    own.copy_(torch.where(band, lowest, own))
    half = (tile.values.amax(1, keepdim=True) - lowest) / 2
    return lowest, half.clamp_(min=torch.finfo(half.dtype).eps)


def degrees_for(half: Tensor) -> int:
    """Return how many degrees reach the precision of the numbers on the widest range."""
    rate = math.asinh(math.pi / float(half.amax()))
    if not rate > 1e-6:  # also where the range is infinite
        return sys.maxsize
    return max(2, math.ceil(-math.log(torch.finfo(half.dtype).eps) / rate))
