"""Losses that add up over pairs: kernels over the blocks of all distances or similarities (:mod:`losses.ops.tiles`).

Each equals the plain composition that its loss's ``items`` is. All take a weight per row ``(N, 1)`` in the order of the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.classes import Classes
from losses.ops.log_space import softplus
from losses.ops.tiles import Tile, Tiles

Sums = tuple[list[Tensor], list[Tensor]]


def tiled_contrastive(
    tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float, positive_margin: float, power: int, average: str
) -> Sums:
    """Return the sums of max(0, d - m+)^p / p over pairs of one class and of max(0, m - d)^p / p over the rest, and their counts.

    A pair within a set weighs the mean of its two ends, one with another set what its anchor weighs. Where the average is
    ``"balanced"`` the sums and counts are two: of one class, and of different ones.
    """
    of_rows = tiles.first.new_ones(tiles.height, 1) if weight is None else weight
    sums, counts = (torch.zeros(1 + (average == "balanced"), dtype=torch.float64, device=classes.rows.device) for _ in range(2))
    if average == "all":
        counts += of_rows.sum(dtype=torch.float64) * ((tiles.width - 1) / 2 if tiles.itself else tiles.width)
    for tile in tiles:
        distances, band = tile.values, classes.band(tile)
        own = classes.own(tile, band)
        excess = torch.sub(margin, distances, out=tile.scratch(1))
        excess[:, band] = torch.where(own, distances[:, band] - positive_margin, excess[:, band])
        excess.clamp_(min=0)
        if tiles.upper:
            excess[:, : len(excess)].triu_(1)  # the block on the diagonal holds each pair twice
        share = None
        if weight is not None:
            share = (of_rows[tile.rows] + of_rows[tile.columns].mT) / 2 if tiles.itself else of_rows[tile.rows]
        if average != "all":
            add_parts(counts, (excess > 0).to(excess.dtype), share, own, band)
        add_parts(sums, excess if power == 1 else torch.mul(excess, excess, out=tile.scratch(2)).mul_(0.5), share, own, band)
        if tiles.differentiable:
            slope = torch.neg(excess, out=tile.scratch(2)) if power == 2 else torch.sign(excess, out=tile.scratch(2)).neg_()
            if share is not None:
                slope *= share
            near = slope[:, band]
            if average == "balanced":
                tile.pull(near.neg().masked_fill_(~own, 0), 0, band)
                near.masked_fill_(own, 0)
                tile.pull(slope, 1)
            else:
                near.copy_(torch.where(own, -near, near))
                tile.pull(slope)
    return list(sums), list(counts)


def add_parts(totals: Tensor, items: Tensor, share: Tensor | None, own: Tensor, band: slice) -> None:
    """Add the items of a block, weighted, to one total; or to two, of those in the band that are a row's own and of the others."""
    if share is not None:
        items = items * share
    if len(totals) == 1:
        totals += exact_sum(items)
        return
    totals[0] += exact_sum(items[:, band] * own)
    totals[1] += exact_sum(items[:, band] * ~own) + exact_sum(items[:, : band.start]) + exact_sum(items[:, band.stop :])


def exact_sum(block: Tensor) -> Tensor:
    """Return the sum of a block, its rows added up in float64."""
    return block.sum(1).sum(dtype=torch.float64)


def tiled_circle(tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float, scale: float) -> Sums:
    """Return the sum of :func:`losses.metric.circle.circle` over the anchors that have positives and negatives, and their number."""
    cost, count = nothing(tiles), nothing(tiles)
    for tile in tiles:
        share = shares(tile, (classes.positives > 0) & (classes.negatives > 0), weight)
        near, band = classes.near(tile), classes.band(tile)
        own = classes.own(tile, band)
        positives = tile.values.gather(1, near.column).masked_fill_(~near.exists, 0)
        tile.values[:, band].masked_fill_(own, margin)  # any finite value: a point's similarity to itself is not

        pace = (1 + margin - positives).relu_().mul_(-scale)
        pulls = (pace * (positives - (1 - margin))).masked_fill_(~near.exists, -torch.inf)
        pull, pulling = log_sum(pulls)
        eager = torch.add(tile.values, margin, out=tile.scratch(1)).clamp_(min=0).mul_(scale)
        logits = tile.values.sub_(margin).mul_(eager)
        logits[:, band].masked_fill_(own, -torch.inf)
        push, pushing = log_sum(logits)

        exponent = (pull + push).masked_fill_(share == 0, 0)
        cost += (softplus(exponent) * share).sum(dtype=torch.float64)
        count += share.sum(dtype=torch.float64)
        if tiles.differentiable:
            slope = exponent.sigmoid_() * share
            gradient = logits.mul_(eager).mul_(slope * pushing)
            tile.pull(gradient.scatter_add_(1, near.column, pulls * pace * (slope * pulling)))
    return [cost], [count]


def tiled_supervised_contrastive(tiles: Tiles, classes: Classes, weight: Tensor | None) -> Sums:
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the number of anchors.

    Anchors without a positive, or with one and nothing to tell it from, do not count. Similarities are divided by the temperature.
    """
    cost, count = nothing(tiles), nothing(tiles)
    compared = classes.positives + classes.negatives
    for tile in tiles:
        share = shares(tile, (classes.positives > 0) & (compared > 1), weight)
        near = classes.near(tile)
        number = classes.positives[tile.rows].unsqueeze(1).clamp(min=1)
        positives = tile.values.gather(1, near.column)
        partition, inverse = log_sum(tile.values)
        surprise = (partition - positives).masked_fill_(~near.exists, 0).sum(1, keepdim=True) / number
        cost += (surprise.masked_fill_(share == 0, 0) * share).sum(dtype=torch.float64)
        count += share.sum(dtype=torch.float64)
        if tiles.differentiable:
            gradient = tile.values.mul_(inverse * share)
            tile.pull(gradient.scatter_add_(1, near.column, near.exists * (-share / number)))
    return [cost], [count]


def tiled_info_nce(tiles: Tiles, classes: Classes, weight: Tensor | None) -> Sums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number of these pairs.

    Similarities are divided by the temperature.
    """
    cost, count = nothing(tiles), nothing(tiles)
    for tile in tiles:
        share = shares(tile, classes.positives > 0, weight)
        near, band = classes.near(tile), classes.band(tile)
        positives = tile.values.gather(1, near.column)
        tile.values[:, band].masked_fill_(classes.own(tile, band), -torch.inf)
        against, inverse = log_sum(tile.values)
        difference = (against - positives).masked_fill_(~near.exists, -torch.inf)
        cost += (softplus(difference).sum(1, keepdim=True) * share).sum(dtype=torch.float64)
        count += (near.exists.sum(1, keepdim=True) * share).sum(dtype=torch.float64)
        if tiles.differentiable:
            slope = difference.sigmoid_().mul_(share)
            gradient = tile.values.mul_(inverse * slope.sum(1, keepdim=True))
            tile.pull(gradient.scatter_add_(1, near.column, -slope))
    return [cost], [count]


def tiled_matches(tiles: Tiles, weight: Tensor | None, *, both: bool) -> Sums:
    """Return the sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their number.

    The sums over columns are complete only after the last block, so with them all blocks are made twice.
    """
    cost, count = nothing(tiles), nothing(tiles)
    share = tiles.first.new_ones(tiles.height, 1) if weight is None else weight
    count += share.sum(dtype=torch.float64) * (2 if both else 1)
    diagonals, of_rows = torch.empty_like(share), torch.empty_like(share)
    top, exponentials = share.new_full((1, tiles.width), -torch.inf), share.new_zeros(1, tiles.width)
    for tile in tiles:
        diagonals[tile.rows] = tile.values[:, tile.rows].diagonal().unsqueeze(1)
        if both:
            higher = torch.maximum(top, tile.values.amax(0, keepdim=True))
            shifted = torch.sub(tile.values, higher, out=tile.scratch(1)).exp_()
            exponentials = exponentials * (top - higher).exp() + shifted.sum(0, keepdim=True)
            top = higher
        of_rows[tile.rows], inverse = log_sum(tile.values)
        if tiles.differentiable and not both:
            gradient = tile.values.mul_(inverse * share[tile.rows])
            gradient[:, tile.rows].diagonal().sub_(share[tile.rows, 0])
            tile.pull(gradient)
    cost += ((of_rows - diagonals) * share).sum(dtype=torch.float64)
    if not both:
        return [cost], [count]
    of_columns = exponentials.log() + top
    cost += ((of_columns.mT - diagonals) * share).sum(dtype=torch.float64)
    for tile in tiles if tiles.differentiable else ():
        gradient = torch.sub(tile.values, of_columns, out=tile.scratch(1)).exp_().mul_(share.mT)
        gradient += tile.values.sub_(of_rows[tile.rows]).exp_().mul_(share[tile.rows])
        gradient[:, tile.rows].diagonal().sub_(2 * share[tile.rows, 0])
        tile.pull(gradient)
    return [cost], [count]


def nothing(tiles: Tiles) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=tiles.first.device)


def shares(tile: Tile, counted: Tensor, weight: Tensor | None) -> Tensor:
    """Return what the rows of a block weigh ``(B, 1)``, 0 where they do not count."""
    share = counted[tile.rows].unsqueeze(1).to(tile.values.dtype)
    return share if weight is None else share * weight[tile.rows]


def log_sum(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(sum(exp(.))) of every row ``(B, 1)`` and the factor that makes the row, exp(.) from now on, its softmax.

    A row of nothing but -inf has the sum -inf and the factor 0.
    """
    if not logits.shape[1]:
        return logits.new_full((len(logits), 1), -torch.inf), logits.new_zeros(len(logits), 1)
    top = logits.amax(1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)
    total = logits.sub_(top).exp_().sum(1, keepdim=True)
    return total.log() + top, (1 / total).masked_fill_(total == 0, 0)
