"""The supervised contrastive loss over all pairs of a labelled batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.pairs.log_sums import exponentiated, log_sum, times_sums
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes, PositiveColumns
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import anchor_blocks, no_sum


def tiled_supervised_contrastive(tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the
    number of anchors.

    Anchors without a positive, or with one and nothing to tell it from, do not count. Similarities are divided by the
    temperature.
    """
    cost, number = no_sum(tiles), no_sum(tiles)
    counted = distinguishing(classes).unsqueeze(1)
    for block in anchor_blocks(tiles, classes, weight):
        counts = counted[block.rows]
        positives = classes.positives[block.rows].unsqueeze(1).clamp(min=1)
        partition, to_softmax = log_sum(logits := block.values)
        surprise = (partition - block.positives).masked_fill_(~block.exists, 0).sum(1, keepdim=True) / positives
        cost += block.total(surprise.masked_fill_(~counts, 0).clamp_(min=0))
        number += block.total(counts.to(surprise.dtype))
        if tiles.differentiable:
            of_positives = (block.exists & counts).to(logits.dtype) / -positives
            block.accumulate_gradient(logits.mul_(to_softmax * counts), of_positives)
    return TileSums([cost], [number])


def distinguishing(classes: Classes) -> Tensor:
    """Return which rows have a positive and something to tell it from, be it another positive."""
    return (classes.positives > 0) & (classes.positives + classes.negatives > 1)


def tiled_supervised_contrastive_by_pairs(tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
    """Return what :func:`tiled_supervised_contrastive` does for a set that meets itself, with every pair looked at
    once.

    An exponential that an anchor adds up its partner adds up too. So they are summed in a first pass and weighted in a
    second, not shifted: the scale is at most :data:`losses.ops.pairs.log_sums.MODEST`.
    """
    row_weight = distinguishing(classes).unsqueeze(1).double()
    row_weight = row_weight if weight is None else row_weight * weight
    of_positive = row_weight / classes.positives.unsqueeze(1).clamp(min=1)
    partition, similarity = torch.zeros_like(row_weight), torch.zeros_like(row_weight)
    seen = []
    for tile in tiles:
        positives, column = positive_pairs(tile, classes)
        similarities = tile.values.gather(1, column).masked_fill_(~positives.exists, 0).double()
        exponentials = exponentiated(tile)
        similarity[tile.rows] += similarities.sum(1, keepdim=True)
        partition[tile.rows] += exponentials.sum(1, keepdim=True)
        if tiles.is_one_block:
            seen.append((tile, exponentials))
        else:
            similarity.index_add_(0, positives.column.flatten(), similarities.reshape(-1, 1))
            partition[tile.columns] += exponentials.sum(0).unsqueeze(1)
    surprise = partition.log() * row_weight - similarity * of_positive
    cost = surprise.masked_fill(row_weight == 0, 0).clamp_(min=0).sum()  # below 0 only by rounding
    of_all = (row_weight / partition).masked_fill(row_weight == 0, 0).to(tiles.first.dtype)
    of_positive = of_positive.to(tiles.first.dtype)
    if tiles.differentiable:
        for tile, exponentials in seen if tiles.is_one_block else ((tile, exponentiated(tile)) for tile in tiles):
            positives, column = positive_pairs(tile, classes)
            gradient = times_sums(exponentials, of_all[tile.rows], of_all[tile.columns].mT)
            of_pairs = of_positive[tile.rows] + of_positive[positives.column].squeeze(2)
            gradient.scatter_add_(1, column, -of_pairs.mul_(positives.exists))
            tile.accumulate_gradient(gradient, symmetric=True)
    return TileSums([cost], [row_weight.sum()])


def positive_pairs(tile: Tile, classes: Classes) -> tuple[PositiveColumns, Tensor]:
    """Return the positives of every row, each pair once or in both its orders as
    :func:`losses.ops.pairs.log_sums.exponentiated`, and their place in the block."""
    positives = classes.positive_columns(tile)
    if not tile.tiles.is_one_block:
        rows = torch.arange(tile.rows.start, tile.rows.stop, device=positives.column.device)
        positives.exists.logical_and_(positives.column > rows.unsqueeze(1))
    return positives, (positives.column - tile.columns.start).clamp_(min=0)
