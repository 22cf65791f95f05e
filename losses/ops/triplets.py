"""Triplets of a labelled batch, without ever listing them.

Each quantity stands here twice. The readable form is a plain composition of the matrix of distances ``(N, M)`` from N
anchors to M others and the masks of who is of the same class (positive) and who of another (negative). Its fast form,
named ``tiled_...``, is a kernel over the blocks of that matrix (:mod:`losses.ops.tiles`) and equal to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.ops.classes import Classes, Near
from losses.ops.log_space import softplus
from losses.ops.tiles import Tile, Tiles

BLOCK = 1 << 22  # elements of the largest temporary
SEARCHED_ONE_BY_ONE = 100  # positives of an anchor above which sorting all negatives is faster than a search for each
GROUP = 32  # columns of which only the best takes part in a search
COMPARED_ONE_BY_ONE = 150  # positives of an anchor above which sorting them is faster than comparing with each


class Compared(NamedTuple):
    """All distances of a labelled batch ``(N, M)`` and who is of the same and of another class.

    ``between`` are the distances among the others ``(M, M)``; with them a negative counts at min(d_an, d_pn).
    """

    distances: Tensor
    positive: Tensor
    negative: Tensor
    between: Tensor | None = None


class AnchorSums(NamedTuple):
    """For every anchor ``(N,)``: the sum over its triplets, how many of them still cost something, and how many it
    has."""

    sum: Tensor
    active: Tensor
    triplets: Tensor


class Chosen(NamedTuple):
    """One negative chosen for some positives: index of the positive and of the negative, and which choices exist."""

    positive: Tensor
    negative: Tensor
    exists: Tensor


def cost(difference: Tensor, margin: float | None) -> Tensor:
    """Return what d_ap - d_an costs: max(0, . + margin), or log(1 + exp(.)) for a soft margin."""
    return softplus(difference) if margin is None else (difference + margin).relu()


def items_of_all(compared: Compared, margin: float | None) -> Tensor:
    """Return the cost of every triplet, ordered by anchor, positive, negative: the definition of what is summed
    below."""
    distances, positive, negative, between = compared
    rows = []
    for row, same, other in zip(distances, positive, negative, strict=True):
        far = row[other].expand(int(same.sum()), -1)
        if between is not None:
            far = torch.minimum(far, between[same][:, other])
        rows.append(cost(row[same].unsqueeze(1) - far, margin).flatten())
    return torch.cat(rows) if rows else distances.flatten()


def sums_of_all(compared: Compared, margin: float | None) -> AnchorSums:
    """Return the sums over all triplets: by counting where that gives them, else block by block."""
    if compared.between is not None or margin is None:
        return blocks_of_all(compared, margin)
    return hinge_of_all(compared, margin)


def hinge_of_all(compared: Compared, margin: float) -> AnchorSums:
    """Return the sums of max(0, d_ap - d_an + margin) over all triplets, exactly, by counting instead of forming them.

    A triplet is active where its threshold d_ap + margin lies above d_an. With c_ap the number of negatives below the
    threshold of p, and c_an the number of thresholds above the negative n, the sum over all triplets is
    sum(c_ap (d_ap + margin)) - sum(c_an d_an): linear in the distances, so the counts are also the gradient.
    """
    distances, positive, negative, _ = compared
    with torch.no_grad():
        thresholds = (distances + margin).masked_fill(~positive, -torch.inf)
        rivals = distances.masked_fill(~negative, torch.inf)
        below = torch.searchsorted(rivals.sort(1).values, thresholds)
        above = distances.shape[1] - torch.searchsorted(thresholds.sort(1).values, rivals, right=True)
        centre = top(thresholds)
    centred = distances - centre
    gain = below.to(distances.dtype) * (centred + margin) - above.to(distances.dtype) * centred
    return AnchorSums(gain.sum(1), below.sum(1), positive.sum(1) * negative.sum(1))


def top(thresholds: Tensor) -> Tensor:
    """Return the highest threshold of every row ``(N, 1)``, 0 where there is none.

    Every anchor has as many c_ap as c_an, so a constant may be taken from its distances. From here no distance that
    counts is far: what is left to add up are small numbers, with small errors.
    """
    if not thresholds.shape[1]:
        return thresholds.new_zeros(len(thresholds), 1)
    highest = thresholds.amax(1, keepdim=True)
    return highest.masked_fill(highest == -torch.inf, 0)


def blocks_of_all(compared: Compared, margin: float | None) -> AnchorSums:
    """Return the sums of :func:`cost` over all triplets where counting cannot give them, block by block of anchors.

    Blocks are computed again in backward, so that only one is ever in memory.
    """
    distances, positive, negative, between = compared

    def block(near: Tensor, same: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        far = near.unsqueeze(1) if between is None else torch.minimum(near.unsqueeze(1), between)
        values = cost(near.unsqueeze(2) - far, margin) * (same.unsqueeze(2) & other.unsqueeze(1))
        return values.sum((1, 2)), (values > 0).sum((1, 2))

    rows = max(1, BLOCK // max(1, distances.shape[1] ** 2))
    parts = zip(*(torch.split(part, rows) for part in (distances, positive, negative)), strict=True)
    again = not torch._C._are_functorch_transforms_active()  # transforms do not know checkpoints
    columns = zip(
        *(checkpoint(block, *part, use_reentrant=False) if again else block(*part) for part in parts), strict=True
    )
    sums, active = (torch.cat(column) for column in columns)
    count = positive.sum(1) * negative.sum(1)
    return AnchorSums(sums, count if margin is None else active, count)


def sums_of_mined(values: Tensor, exists: Tensor, active: Tensor) -> AnchorSums:
    """Return the sums over mined triplets, ``(N,)`` or ``(N, M)``."""
    return AnchorSums(*(part if part.ndim == 1 else part.sum(1) for part in (values, active, exists)))


@torch.no_grad()
def hardest(compared: Compared) -> Chosen:
    """Return for every anchor ``(N,)`` its farthest positive and its nearest negative."""
    distances, positive, negative, _ = compared
    if distances.shape[1] == 0:
        nothing = torch.zeros(len(distances), dtype=torch.long, device=distances.device)
        return Chosen(nothing, nothing, nothing.bool())
    return Chosen(
        distances.masked_fill(~positive, -torch.inf).argmax(1),
        distances.masked_fill(~negative, torch.inf).argmin(1),
        positive.any(1) & negative.any(1),
    )


@torch.no_grad()
def semi_hard(compared: Compared) -> Chosen:
    """Return for every anchor and positive ``(N, M)`` the nearest negative farther away than it, else the farthest
    negative."""
    distances, positive, negative, _ = compared
    rivals, order = distances.masked_fill(~negative, torch.inf).sort(1)
    farther = torch.searchsorted(rivals, just_beyond(distances), right=True)
    last = negative.sum(1, keepdim=True) - 1
    chosen = torch.minimum(farther, last).clamp(min=0)
    itself = torch.arange(distances.shape[1], device=distances.device).expand_as(order)
    return Chosen(itself, order.gather(1, chosen), positive & (last >= 0))


def semi_hard_costs(compared: Compared, margin: float | None) -> tuple[Tensor, Tensor]:
    """Return the cost of the semi-hard triplet of every anchor and positive ``(N, M)``, 0 where there is none, and
    where there is one."""
    distances, between = compared.distances, compared.between
    if distances.shape[1] == 0:
        return distances, compared.positive
    positive, negative, exists = semi_hard(compared)
    far = distances.gather(1, negative)
    if between is not None:
        far = torch.minimum(far, between[positive, negative])
    return cost(distances - far, margin).masked_fill(~exists, 0), exists


def just_beyond(distances: Tensor) -> Tensor:
    """Return distances that are farther by more than rounding: a negative as near as the positive is not farther."""
    return distances + 32 * torch.finfo(distances.dtype).eps * distances.abs()


class Counted(NamedTuple):
    """Sums of a kernel over triplets: their cost, and how many still cost something and how many there are (or their
    weights)."""

    cost: Tensor
    active: Tensor
    triplets: Tensor

    def outputs(self) -> tuple[list[Tensor], list[Tensor]]:
        return [self.cost], [self.active, self.triplets]


def tiled_hinge(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the sums of :func:`hinge_of_all`, weighted by anchor, over blocks of anchors."""
    counted = nothing_yet(classes, weight)
    for tile in tiles:
        distances, near = tile.values, classes.near(tile)
        positives = distances.gather(1, near.column)
        own, band = own_distances(tile, classes)
        own.masked_fill_(band, torch.inf)
        thresholds = (positives + margin).masked_fill_(~near.exists, -torch.inf)
        above, below = counts(distances, thresholds, tile)
        restore(tile, own, band, near, positives)
        centre = top(thresholds)
        gain = (below * (positives - centre + margin)).masked_fill_(~near.exists, 0).sum(1, keepdim=True)
        gain -= torch.sub(distances, centre, out=tile.scratch(2)).mul_(above).sum(1, keepdim=True)
        counted.cost.add_(total(gain, tile, weight))
        counted.active.add_(total(below.sum(1, keepdim=True, dtype=torch.float64), tile, weight))
        if tiles.differentiable:
            slope = above.neg_().scatter_add_(1, near.column, below)
            tile.pull(slope if weight is None else slope.mul_(weight[tile.rows]))
    return counted.outputs()


def counts(distances: Tensor, thresholds: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
    """Return how many thresholds ``(B, P)`` of its row lie above each distance ``(B, M)``, and how many distances below
    each threshold."""
    above, below = tile.scratch(1).zero_(), torch.zeros_like(thresholds)
    positives = thresholds.shape[1]
    if positives <= COMPARED_ONE_BY_ONE:
        passed = tile.scratch(2)
        for place in range(positives):
            torch.lt(distances, thresholds[:, place : place + 1], out=passed)
            above += passed
            torch.sum(passed, 1, out=below[:, place])
        return above, below
    ordered, order = thresholds.sort(1)
    reached = torch.searchsorted(ordered, distances, right=True)  # thresholds at or below each distance
    torch.sub(positives, reached, out=above)
    rivals = above.new_zeros(len(above), positives + 1).scatter_add_(1, reached, torch.ones_like(above))
    return above, below.scatter_(1, order, rivals.cumsum(1)[:, :positives])


def tiled_semi_hard(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the sums over the triplets of :func:`semi_hard`, weighted by anchor, over blocks of anchors."""
    counted = nothing_yet(classes, weight, classes.negatives.clamp(max=1))
    for tile in tiles:
        distances, near = tile.values, classes.near(tile)
        if not near.column.numel():
            continue
        positives = distances.gather(1, near.column)
        own, band = own_distances(tile, classes)
        own.masked_fill_(band, torch.inf)
        exists = near.exists & (classes.negatives[tile.rows] > 0).unsqueeze(1)
        chosen = semi_hard_columns(distances, just_beyond(positives), classes.negatives[tile.rows].unsqueeze(1))
        difference = (positives - distances.gather(1, chosen)).masked_fill_(~exists, 0)
        values = cost(difference, margin).masked_fill_(~exists, 0)
        slope = difference.sigmoid() if margin is None else (values > 0).to(values.dtype)
        slope.masked_fill_(~exists, 0)
        counted.cost.add_(total(values.sum(1, keepdim=True), tile, weight))
        counted.active.add_(
            total((exists if margin is None else values > 0).sum(1, keepdim=True, dtype=torch.float64), tile, weight)
        )
        if tiles.differentiable:
            slope = slope if weight is None else slope.mul_(weight[tile.rows])
            restore(tile, own, band, near, positives)
            gradient = tile.scratch(1).zero_().scatter_add_(1, near.column, slope)
            tile.pull(gradient.scatter_add_(1, chosen, -slope))
    return counted.outputs()


def semi_hard_columns(distances: Tensor, thresholds: Tensor, negatives: Tensor) -> Tensor:
    """Return the column of the nearest negative beyond each threshold ``(B, P)``, else of the farthest one.

    Args:
        distances: ``(B, M)``, infinite but for the negatives.
        thresholds: ``(B, P)``.
        negatives: how many each row has, ``(B, 1)``.
    """
    if thresholds.shape[1] > SEARCHED_ONE_BY_ONE or not distances.shape[1]:
        rivals, order = distances.sort(1)
        beyond = torch.searchsorted(rivals, thresholds, right=True)
        return order.gather(1, torch.minimum(beyond, negatives - 1).clamp_(min=0))
    farthest = lowest(torch.neg(distances).masked_fill_(distances == torch.inf, torch.inf))
    columns, ahead = torch.empty_like(thresholds, dtype=torch.long), torch.empty_like(distances)
    for place in range(thresholds.shape[1]):
        threshold = thresholds[:, place : place + 1]
        column = lowest(torch.threshold_(torch.sub(distances, threshold, out=ahead), 0, torch.inf))
        columns[:, place] = torch.where(ahead.gather(1, column.unsqueeze(1)).squeeze(1) < torch.inf, column, farthest)
    return columns


@torch.no_grad()
def tiled_hardest(tiles: Tiles, classes: Classes) -> Chosen:
    """Return the choice of :func:`hardest`, over blocks of anchors."""
    positive, negative = (torch.zeros_like(classes.rows) for _ in range(2))
    for tile in tiles:
        distances, near = tile.values if tile.exact is None else tile.exact, classes.near(tile)
        if near.column.numel():
            farthest = distances.gather(1, near.column).masked_fill_(~near.exists, -torch.inf).argmax(1, keepdim=True)
            positive[tile.rows] = near.column.gather(1, farthest).squeeze(1)
        band = classes.band(tile)
        distances[:, band].masked_fill_(classes.own(tile, band), torch.inf)
        if distances.shape[1]:
            negative[tile.rows] = lowest(distances)
    exists = (classes.positives > 0) & (classes.negatives > 0)
    if not classes.width:
        return Chosen(positive, negative, exists)
    chosen = (classes.columns.take(positive), classes.columns.take(negative), exists)
    return Chosen(*(torch.empty_like(part).index_copy_(0, classes.rows, part) for part in chosen))


def lowest(distances: Tensor) -> Tensor:
    """Return the column of the least distance of every row, in a fraction of the time of ``argmin``: first its group,
    then itself."""
    rows, width = distances.shape
    rest = width % GROUP
    if width < 2 * GROUP:
        return distances.argmin(1)
    groups = distances[:, : width - rest].reshape(rows, -1, GROUP)
    group = groups.amin(2).argmin(1, keepdim=True)
    within = group * GROUP + torch.arange(GROUP, device=group.device)
    columns = torch.cat([within, torch.arange(width - rest, width, device=group.device).expand(rows, -1)], 1)
    return columns.gather(1, distances.gather(1, columns).argmin(1, keepdim=True)).squeeze(1)


def nothing_yet(classes: Classes, weight: Tensor | None, negatives: Tensor | None = None) -> Counted:
    """Return sums of 0, with the triplets counted, which needs no distances: ``negatives`` ``(N,)`` for each positive,
    by default all."""
    each = (classes.positives * (classes.negatives if negatives is None else negatives)).double()
    triplets = each.sum() if weight is None else (each * weight.squeeze(1)).sum()
    return Counted(torch.zeros_like(triplets), torch.zeros_like(triplets), triplets)


def own_distances(tile: Tile, classes: Classes) -> tuple[Tensor, Tensor]:
    """Return the part of a block that holds all distances within classes, as a view, and the mask of these distances in
    it."""
    band = classes.band(tile)
    return tile.values[:, band], classes.own(tile, band)


def restore(tile: Tile, own: Tensor, band: Tensor, near: Near, positives: Tensor) -> None:
    """Write the distances of positives back into a block; a point itself gets some finite number, as its derivative is
    0."""
    own.masked_fill_(band, 0)
    tile.values.scatter_add_(1, near.column, positives.masked_fill(~near.exists, 0))
    tile.at_itself(tile.values, 1)


def total(rows: Tensor, tile: Tile, weight: Tensor | None) -> Tensor:
    """Return the sum over the rows of a block ``(B, 1)``, weighted, in float64."""
    return rows.sum(dtype=torch.float64) if weight is None else (rows * weight[tile.rows]).sum(dtype=torch.float64)
