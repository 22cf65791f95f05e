"""Losses that hold similar and dissimilar against each other in logarithms of sums: circle, supervised contrastive,
InfoNCE.

Kernels over the blocks of all similarities (:mod:`losses.ops.tiles`). Each equals the plain composition that its loss's
``items`` is. All take a weight per row ``(N, 1)`` in the order of the rows, which is called the share of a row once
those that do not count have none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.classes import Classes, Near
from losses.ops.log_space import softplus
from losses.ops.tiles import Tile, Tiles

STRIP = 1 << 15  # elements that stay in the nearest cache
MODEST = 60.0  # scale up to which similarities need no shift before they are exponents: float32 ends at exp(88)

Sums = tuple[list[Tensor], list[Tensor]]


def tiled_circle(tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float, scale: float) -> Sums:
    """Return the sum of :func:`losses.metric.circle.circle` over the anchors that have positives and negatives, and
    their number."""
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
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the
    number of anchors.

    Anchors without a positive, or with one and nothing to tell it from, do not count. Similarities are divided by the
    temperature.
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
        cost += (surprise.masked_fill_(share == 0, 0).clamp_(min=0) * share).sum(dtype=torch.float64)
        count += share.sum(dtype=torch.float64)
        if tiles.differentiable:
            gradient = tile.values.mul_(inverse * share)
            tile.pull(gradient.scatter_add_(1, near.column, near.exists * (-share / number)))
    return [cost], [count]


def tiled_supervised_contrastive_by_pairs(tiles: Tiles, classes: Classes, weight: Tensor | None) -> Sums:
    """Return what :func:`tiled_supervised_contrastive` does for a set that meets itself, with every pair looked at
    once.

    An exponential that an anchor adds up its partner adds up too. So they are summed in a first pass and weighed in a
    second, not shifted: the scale is at most :data:`MODEST`.
    """
    share = ((classes.positives > 0) & (classes.positives + classes.negatives > 1)).unsqueeze(1).double()
    share = share if weight is None else share * weight
    pull = share / classes.positives.unsqueeze(1).clamp(min=1)
    partition, similarity = torch.zeros_like(share), torch.zeros_like(share)
    seen = []
    for tile in tiles:
        near, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~near.exists, 0).double()
        exponentials = exponentiated(tile)
        similarity[tile.rows] += similarities.sum(1, keepdim=True)
        partition[tile.rows] += exponentials.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append((tile, exponentials))
        else:
            similarity.index_add_(0, near.column.flatten(), similarities.reshape(-1, 1))
            partition[tile.columns] += exponentials.sum(0).unsqueeze(1)
    surprise = partition.log() * share - similarity * pull
    cost = surprise.masked_fill(share == 0, 0).clamp_(min=0).sum()  # below 0 only by rounding
    push = (share / partition).masked_fill(share == 0, 0).to(tiles.first.dtype)
    pull = pull.to(tiles.first.dtype)
    if tiles.differentiable:
        for tile, exponentials in seen if tiles.is_one_block else ((tile, exponentiated(tile)) for tile in tiles):
            near, column = positive_pairs(tile, classes)
            gradient = times_sums(exponentials, push[tile.rows], push[tile.columns].mT)
            pulls = (pull[tile.rows] + pull[near.column].squeeze(2)).mul_(near.exists)
            tile.pull(gradient.scatter_add_(1, column, -pulls), symmetric=True)
    return [cost], [share.sum()]


def tiled_views(tiles: Tiles, share: Tensor) -> Sums:
    """Return the sum of share_i (log(sum(exp(s_ij))) - s_ip) over the rows of two views on top of each other, p the
    other view of i.

    The same in two passes as :func:`tiled_supervised_contrastive_by_pairs`, for classes that need no looking up.
    """
    half, share = tiles.height // 2, share.to(tiles.first.dtype)
    similarity = torch.linalg.vecdot(tiles.first[:half], tiles.first[half:]).mul_(tiles.scale).repeat(2).unsqueeze(1)
    partition = torch.zeros_like(share)
    seen = []
    for tile in tiles:
        exponentials = exponentiated(tile)
        partition[tile.rows] += exponentials.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append((tile, exponentials))
        else:
            partition[tile.columns] += exponentials.sum(0).unsqueeze(1)
    push = share / partition
    if tiles.differentiable:
        for tile, exponentials in seen if tiles.is_one_block else ((tile, exponentiated(tile)) for tile in tiles):
            gradient = times_sums(exponentials, push[tile.rows], push[tile.columns].mT)
            pulls = (share[:half, 0] + share[half:, 0])[tile.rows]
            gradient.diagonal(half)[: len(pulls)].sub_(pulls)
            if tiles.is_one_block:
                gradient.diagonal(-half).sub_(pulls)
            tile.pull(gradient, symmetric=True)
    surprise = (partition.log() - similarity).clamp_(min=0)  # below 0 only by rounding
    return [(surprise * share).sum(dtype=torch.float64)], [share.sum(dtype=torch.float64)]


def exponentiated(tile: Tile) -> Tensor:
    """Return the exponentials of a block in place: of each pair once, or of both its orders where there is one
    block."""
    exponentials = tile.values.exp_()
    if not tile.tiles.is_one_block:
        exponentials[:, : len(exponentials)].triu_(1)
    return exponentials


def positive_pairs(tile: Tile, classes: Classes) -> tuple[Near, Tensor]:
    """Return the positives of every row, each pair once or in both its orders as :func:`exponentiated`, and their place
    in the block."""
    near = classes.near(tile)
    if not tile.tiles.is_one_block:
        rows = torch.arange(tile.rows.start, tile.rows.stop, device=near.column.device)
        near.exists.logical_and_(near.column > rows.unsqueeze(1))
    return near, (near.column - tile.columns.start).clamp_(min=0)


def tiled_info_nce(tiles: Tiles, classes: Classes, weight: Tensor | None) -> Sums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number
    of these pairs.

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


def tiled_matches(tiles: Tiles, share: Tensor, *, both: bool) -> Sums:
    """Return the sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their number.

    The sums over columns are complete only after the last block, so with them all blocks are made twice.
    """
    share = share.to(tiles.first.dtype)
    diagonals, of_rows = torch.empty_like(share), torch.empty_like(share)
    of_columns = share.new_full((1, tiles.width), -torch.inf)
    for tile in tiles:
        diagonals[tile.rows] = tile.values[:, tile.rows].diagonal().unsqueeze(1)
        if both:
            of_columns = torch.logaddexp(of_columns, column_sums(tile))
        of_rows[tile.rows], inverse = log_sum(tile.values)
        if tiles.differentiable and not both:
            gradient = tile.values.mul_(inverse * share[tile.rows])
            gradient[:, tile.rows].diagonal().sub_(share[tile.rows, 0])
            tile.pull(gradient)
    surprise = (of_rows - diagonals).clamp_(min=0)  # below 0 only by rounding
    if both:
        surprise += (of_columns.mT - diagonals).clamp_(min=0)
    cost, count = (surprise * share).sum(dtype=torch.float64), share.sum(dtype=torch.float64)
    for tile in tiles if both and tiles.differentiable else ():
        gradient = weighed_exponentials(tile, of_rows, of_columns, share)
        gradient[:, tile.rows].diagonal().sub_(2 * share[tile.rows, 0])
        tile.pull(gradient)
    return [cost], [count * (2 if both else 1)]


def column_sums(tile: Tile) -> Tensor:
    """Return log(sum(exp(.))) of every column of a block ``(1, M)``."""
    if tile.tiles.scale <= MODEST:
        return torch.exp(tile.values, out=tile.scratch(1)).sum(0, keepdim=True).log()
    top = tile.values.amax(0, keepdim=True)
    return torch.sub(tile.values, top, out=tile.scratch(1)).exp_().sum(0, keepdim=True).log() + top


def weighed_exponentials(tile: Tile, of_rows: Tensor, of_columns: Tensor, share: Tensor) -> Tensor:
    """Return the sum of the softmax over rows and that over columns, each times the share of its anchor."""
    rows = tile.rows
    if tile.tiles.scale <= MODEST:
        return times_sums(tile.values.exp_(), (-of_rows[rows]).exp() * share[rows], (-of_columns).exp() * share.mT)
    gradient = torch.sub(tile.values, of_columns, out=tile.scratch(1)).exp_().mul_(share.mT)
    return gradient.add_(tile.values.sub_(of_rows[rows]).exp_().mul_(share[rows]))


def times_sums(block: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """Return a block times a number of its row ``(B, 1)`` plus a number of its column ``(1, M)``, in place, a strip at
    a time."""
    strip = max(1, STRIP // max(1, block.shape[1]))
    for start in range(0, len(block), strip):
        block[start : start + strip] *= of_rows[start : start + strip] + of_columns
    return block


def nothing(tiles: Tiles) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=tiles.first.device)


def shares(tile: Tile, counted: Tensor, weight: Tensor | None) -> Tensor:
    """Return what the rows of a block weigh ``(B, 1)``, 0 where they do not count."""
    share = counted[tile.rows].unsqueeze(1).to(tile.values.dtype)
    return share if weight is None else share * weight[tile.rows]


def log_sum(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(sum(exp(.))) of every row ``(B, 1)`` and the factor that makes the row, exp(.) from now on, its
    softmax.

    A row of nothing but -inf has the sum -inf and the factor 0.
    """
    if not logits.shape[1]:
        return logits.new_full((len(logits), 1), -torch.inf), logits.new_zeros(len(logits), 1)
    top = logits.amax(1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)
    total = logits.sub_(top).exp_().sum(1, keepdim=True)
    return total.log() + top, (1 / total).masked_fill_(total == 0, 0)
