"""The supervised contrastive loss over all pairs of a labelled batch."""

from __future__ import annotations

from torch import Tensor

from losses.ops.pairs.by_pairs import tiled_by_pairs
from losses.ops.pairs.log_sums import log_sum
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
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
    once."""
    counted, positives = distinguishing(classes).unsqueeze(1), classes.positives.unsqueeze(1).clamp(min=1)

    def surprise(exponentials: Tensor, similarities: Tensor) -> Tensor:
        return exponentials.masked_fill(~counted, 1).log() - similarities / positives

    return tiled_by_pairs(tiles, classes, weight, cost=surprise, of_positive=None, everyone=True, counted=counted)
