"""The circle loss over all pairs of a labelled batch: positives and negatives of an anchor as logarithms of sums."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.indexed.rows import NamedRows
from losses.ops.numerics.log_space import softplus
from losses.ops.pairs.log_sums import log_sum
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import Costs, anchor_blocks, no_sum


def tiled_circle(tiles: Tiles, classes: Classes, weight: Tensor | None, *, margin: float, scale: float) -> TileSums:
    """Return the sum of :func:`losses.metric.circle.circle` over the anchors that have positives and negatives, and
    their number."""
    cost, number = no_sum(tiles), no_sum(tiles)
    counted = ((classes.positives > 0) & (classes.negatives > 0)).unsqueeze(1)
    for block in anchor_blocks(tiles, classes, weight):
        counts = counted[block.rows]
        positives = block.positives.masked_fill_(~block.exists, 0)
        similarities = block.fill_own(margin)  # any finite value: a point's similarity to itself is not

        of_positive = (1 + margin - positives).relu_().mul_(-scale)
        positive_logits = (of_positive * (positives - (1 - margin))).masked_fill_(~block.exists, -torch.inf)
        positive_sum, to_positive = log_sum(positive_logits)
        of_negative = torch.add(similarities, margin, out=block.scratch(1)).clamp_(min=0).mul_(scale)
        negative_logits = similarities.sub_(margin).mul_(of_negative)
        negative_logits[:, block.band].masked_fill_(block.own, -torch.inf)
        negative_sum, to_negative = log_sum(negative_logits)

        exponent = (positive_sum + negative_sum).masked_fill_(~counts, 0)
        cost += block.total(softplus(exponent) * counts)
        number += block.total(counts.to(exponent.dtype))
        if tiles.differentiable:
            slope = exponent.sigmoid_() * counts
            block.accumulate_gradient(
                negative_logits.mul_(of_negative).mul_(slope * to_negative),
                positive_logits * of_positive * (slope * to_positive),
            )
    return TileSums([cost], [number])


def circle_of_named(rows: NamedRows, *, margin: float, scale: float) -> Costs:
    """Return what anchors cost ``(B, 1)`` with the positives and negatives that indices name, and the derivatives by
    their similarities."""
    astray = 1 - rows.positives, rows.negatives.clone()  # how far from the best similarity, 1 or 0
    sums, factors, slopes = [], [], []
    for far, times in zip(astray, (rows.times_positive, rows.times_negative), strict=True):
        absent = times == 0
        pace = far.masked_fill_(absent, 0).add(margin).clamp_(min=0).mul_(scale)
        logits = far.sub_(margin).mul_(pace).masked_fill_(absent, -torch.inf)
        logarithm, to_softmax = log_sum(logits, sparse=True)
        sums.append(logarithm)
        factors.append(to_softmax)
        slopes.append(logits.mul_(pace))
    idle = (sums[0] == -torch.inf) | (sums[1] == -torch.inf)
    exponent = (sums[0] + sums[1]).masked_fill_(idle, 0)
    costs = softplus(exponent).masked_fill_(idle, 0)
    slope = exponent.sigmoid_().masked_fill_(idle, 0)
    return costs, (slopes[0].mul_(factors[0] * slope).neg_(), slopes[1].mul_(factors[1] * slope))
