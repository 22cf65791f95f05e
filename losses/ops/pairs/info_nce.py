"""InfoNCE: over the positives of a labelled batch, and over the rows of two sets that match."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.indexed.rows import NamedRows
from losses.ops.numerics.log_space import softplus
from losses.ops.pairs.log_sums import MODEST, exponentiated, log_sum, times_sums
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import Costs, anchor_blocks, exact_sum, no_sum


def tiled_info_nce(tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number
    of these pairs.

    Similarities are divided by the temperature.
    """
    cost, number = no_sum(tiles), no_sum(tiles)
    for block in anchor_blocks(tiles, classes, weight):
        negatives, to_softmax = log_sum(logits := block.fill_own(-torch.inf))
        difference = (negatives - block.positives).masked_fill_(~block.exists, -torch.inf)
        cost += block.total(softplus(difference))
        number += block.total(block.exists.sum(1, keepdim=True).to(difference.dtype))
        if tiles.differentiable:
            slope = difference.sigmoid_()
            block.accumulate_gradient(logits.mul_(to_softmax * slope.sum(1, keepdim=True)), slope.neg())
    return TileSums([cost], [number])


def tiled_views(tiles: Tiles, row_weight: Tensor) -> TileSums:
    """Return the weighted sum of log(sum(exp(s_ij))) - s_ip over the rows of two views on top of each other, p the
    other view of i.

    Two passes, as in :func:`losses.ops.pairs.supervised_contrastive.tiled_supervised_contrastive_by_pairs`, for classes
    that need no looking up.
    """
    half, row_weight = tiles.height // 2, row_weight.to(tiles.first.dtype)
    similarity = torch.linalg.vecdot(tiles.first[:half], tiles.first[half:]).mul_(tiles.scale).repeat(2).unsqueeze(1)
    partition = torch.zeros_like(row_weight)
    seen = []
    for tile in tiles:
        exponentials = exponentiated(tile)
        partition[tile.rows] += exponentials.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append((tile, exponentials))
        else:
            partition[tile.columns] += exponentials.sum(0).unsqueeze(1)
    of_all = row_weight / partition
    if tiles.differentiable:
        for tile, exponentials in seen if tiles.is_one_block else ((tile, exponentiated(tile)) for tile in tiles):
            gradient = times_sums(exponentials, of_all[tile.rows], of_all[tile.columns].mT)
            of_pairs = (row_weight[:half, 0] + row_weight[half:, 0])[tile.rows]
            gradient.diagonal(half)[: len(of_pairs)].sub_(of_pairs)
            if tiles.is_one_block:
                gradient.diagonal(-half).sub_(of_pairs)
            tile.accumulate_gradient(gradient, symmetric=True)
    surprise = (partition.log() - similarity).clamp_(min=0)  # below 0 only by rounding
    return TileSums([exact_sum(surprise, row_weight)], [exact_sum(row_weight)])


def tiled_matches(tiles: Tiles, row_weight: Tensor, *, both: bool) -> TileSums:
    """Return the weighted sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their
    number.

    The sums over columns are complete only after the last block, so with them all blocks are made twice.
    """
    row_weight = row_weight.to(tiles.first.dtype)
    diagonals, of_rows = torch.empty_like(row_weight), torch.empty_like(row_weight)
    of_columns = row_weight.new_full((1, tiles.width), -torch.inf)
    for tile in tiles:
        diagonals[tile.rows] = tile.values[:, tile.rows].diagonal().unsqueeze(1)
        if both:
            of_columns = torch.logaddexp(of_columns, column_sums(tile))
        of_rows[tile.rows], to_softmax = log_sum(tile.values)
        if tiles.differentiable and not both:
            gradient = tile.values.mul_(to_softmax * row_weight[tile.rows])
            gradient[:, tile.rows].diagonal().sub_(row_weight[tile.rows, 0])
            tile.accumulate_gradient(gradient)
    surprise = (of_rows - diagonals).clamp_(min=0)  # below 0 only by rounding
    if both:
        surprise += (of_columns.mT - diagonals).clamp_(min=0)
    cost, number = exact_sum(surprise, row_weight), exact_sum(row_weight)
    for tile in tiles if both and tiles.differentiable else ():
        gradient = softmax_of_both(tile, of_rows, of_columns, row_weight)
        gradient[:, tile.rows].diagonal().sub_(2 * row_weight[tile.rows, 0])
        tile.accumulate_gradient(gradient)
    return TileSums([cost], [number * (2 if both else 1)])


def column_sums(tile: Tile) -> Tensor:
    """Return log(sum(exp(.))) of every column of a block ``(1, M)``."""
    if tile.tiles.scale <= MODEST:
        return torch.exp(tile.values, out=tile.scratch(1)).sum(0, keepdim=True).log()
    top = tile.values.amax(0, keepdim=True)
    return torch.sub(tile.values, top, out=tile.scratch(1)).exp_().sum(0, keepdim=True).log() + top


def softmax_of_both(tile: Tile, of_rows: Tensor, of_columns: Tensor, row_weight: Tensor) -> Tensor:
    """Return the sum of the softmax over rows and that over columns, each times the weight of its anchor."""
    rows = tile.rows
    if tile.tiles.scale <= MODEST:
        return times_sums(
            tile.values.exp_(), (-of_rows[rows]).exp() * row_weight[rows], (-of_columns).exp() * row_weight.mT
        )
    gradient = torch.sub(tile.values, of_columns, out=tile.scratch(1)).exp_().mul_(row_weight.mT)
    return gradient.add_(tile.values.sub_(of_rows[rows]).exp_().mul_(row_weight[rows]))


def info_nce_of_named(rows: NamedRows, *, scale: float) -> Costs:
    """Return what the positives of anchors cost together ``(B, 1)``, each as often as indices name it, and the
    derivatives by similarities; negatives that are not meant are infinitely far, and without any nothing costs."""
    top = rows.negatives.amax(1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)
    terms = torch.sub(rows.negatives, top).mul_(scale).exp_().mul_(rows.times_negative)
    partition = terms.sum(1, keepdim=True)
    times = rows.times_positive.masked_fill(partition == 0, 0)
    partition.masked_fill_(partition == 0, 1)
    logits = torch.sub(partition.log().add_(top, alpha=scale), rows.positives, alpha=scale)
    costs = (softplus(logits) * times).sum(1, keepdim=True)
    slopes = logits.sigmoid_().mul_(times).mul_(scale)
    return costs, (-slopes, terms.mul_(slopes.sum(1, keepdim=True) / partition))
