"""The supervised contrastive loss over all pairs of a labelled batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.indexed.rows import NamedRows
from losses.ops.numerics.log_space import exponentials_below
from losses.ops.pairs.by_pairs import ByPairs, tiled_by_pairs
from losses.ops.pairs.log_sums import log_sum
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import Costs, anchor_blocks, no_sum


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


def supervised_contrastive_by_pairs(classes: Classes) -> ByPairs:
    """Return the loss as one of two sums of every anchor."""
    counted, positives = distinguishing(classes).unsqueeze(1), classes.positives.unsqueeze(1).clamp(min=1)

    def surprise(exponentials: Tensor, similarities: Tensor) -> Tensor:
        return exponentials.masked_fill(~counted, 1).log() - similarities / positives

    return ByPairs(surprise, of_positive=None, everyone=True, counted=counted)


def tiled_supervised_contrastive_by_pairs(tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
    """Return what :func:`tiled_supervised_contrastive` does for a set that meets itself, with every pair looked at
    once."""
    return tiled_by_pairs(tiles, classes, weight, supervised_contrastive_by_pairs(classes))


def supervised_contrastive_of_named(rows: NamedRows, *, scale: float) -> Costs:
    """Return what anchors cost ``(B, 1)`` with the positives and negatives that indices name, and the derivatives by
    their similarities; what is not meant is infinitely good."""
    absent = rows.times_positive == 0
    positives = rows.positives.masked_fill(absent, -torch.inf)
    top = torch.maximum(positives.amax(1, keepdim=True), rows.negatives.amax(1, keepdim=True))
    top.masked_fill_(top == -torch.inf, 0)
    positives.sub_(top).mul_(scale)
    terms = tuple(exponentials_below(part) for part in (positives.clone(), torch.sub(rows.negatives, top).mul_(scale)))
    partition = terms[0].sum(1, keepdim=True) + terms[1].sum(1, keepdim=True)
    number = positives.shape[1] - absent.sum(1, keepdim=True)
    others = torch.count_nonzero(rows.times_negative, 1).unsqueeze(1)
    told_apart = (number > 0) & (number + others > 1)
    partition.masked_fill_(~told_apart, 1)
    # of a positive in the mean over them; 0 of anchors that do not count
    per_positive = told_apart.to(positives.dtype) / number.clamp(min=1)
    mean = positives.masked_fill_(absent, 0).sum(1, keepdim=True) * per_positive
    costs = (partition.log() * told_apart - mean).clamp_(min=0)  # below 0 only by rounding
    slope = (scale / partition).masked_fill_(~told_apart, 0)
    return costs, (terms[0].mul_(slope).sub_(per_positive * scale), terms[1].mul_(slope))
