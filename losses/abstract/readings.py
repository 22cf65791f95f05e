"""What a batch of embeddings tells beside its loss: are classes apart, is anything left to learn, has everything
collapsed?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses.core.labelled import LabelledBatch, views_of
from losses.core.outputs import Pairs, Triplets, map_tensors
from losses.core.precision import accumulated, accumulation_dtype
from losses.ops.distances import pairwise_distance, rowwise_distance
from losses.ops.tiles.rows import AnchorBlock, exact_sum
from losses.ops.tiles.whole_batch import tileable, tiles_of

Readings = dict[str, Tensor]
Number = Tensor | int


def separation(
    output: LabelledBatch | Pairs | Triplets, target: Any, active: Tensor, distance: str, gap: float
) -> Readings:
    """Return how far apart classes are.

    Args:
        output, target: an accepted batch of embeddings, pairs or triplets.
        active: fraction of the items that still cost something: of explicit pairs and triplets, what violates a margin.
        distance: in which positives and negatives are measured.
        gap: by how much more than its farthest positive the nearest negative of an anchor should be away.
    """
    if isinstance(output, LabelledBatch):
        return separation_in_blocks(output, distance, gap) if tileable(output) else separated(output, distance, gap)
    if isinstance(output, Triplets):
        near, far = (rowwise_distance(output.anchor, other, distance) for other in (output.positive, output.negative))
        return apart(near.sum(), len(near), far.sum(), len(far), active, 1)
    if target is None:
        return separation(views_of(output), target, active, distance, gap)
    distances, same = rowwise_distance(output.first, output.second, distance), target > 0
    sums = (distances.masked_fill(~mask, 0).sum() for mask in (same, ~same))  # for infinity times 0 is NaN
    return apart(next(sums), same.sum(), next(sums), (~same).sum(), active, 1)


def separated(batch: LabelledBatch, distance: str, gap: float) -> Readings:
    """Return how far apart the classes of a labelled batch are, as a plain composition."""
    distances = accumulated(pairwise_distance(batch.anchors, batch.others, distance))
    positive, negative = batch.occurrences()
    none = distances.new_full((len(distances), 1), torch.inf)  # so that a batch without others has a nearest one too
    farthest = torch.cat([distances.masked_fill(positive == 0, -torch.inf), -none], 1).amax(1)
    nearest = torch.cat([distances.masked_fill(negative == 0, torch.inf), none], 1).amin(1)
    has_both = (positive > 0).any(1) & (negative > 0).any(1)
    within, between = ((distances.masked_fill(times == 0, 0) * times).sum() for times in (positive, negative))
    sums = within, positive.sum(), between, negative.sum()
    return apart(*sums, ((farthest + gap >= nearest) & has_both).sum(), has_both.sum())


def separation_in_blocks(batch: LabelledBatch, distance: str, gap: float) -> Readings:
    """Return what :func:`separated` does, in blocks of all distances."""
    tiles, classes = tiles_of(batch, distance)
    within, between, violations = torch.zeros(3, dtype=torch.float64, device=batch.anchors.device)
    has_both = (classes.positives > 0) & (classes.negatives > 0)
    for tile in tiles:
        block = AnchorBlock(tile, classes, values=None if tile.exact is None else tile.exact.values)
        within += exact_sum(block.positives.masked_fill(~block.exists, 0))
        between += exact_sum(block.fill_own(0))
        if block.positives.shape[1]:
            farthest = block.positives.masked_fill(~block.exists, -torch.inf).amax(1)
            nearest = block.fill_own(torch.inf).amin(1)
            violations += ((farthest + gap >= nearest) & has_both[block.rows]).sum()
    return apart(within, classes.positives.sum(), between, classes.negatives.sum(), violations, has_both.sum())


def apart(
    within: Tensor, positives: Number, between: Tensor, negatives: Number, violations: Tensor, anchors: Number
) -> Readings:
    """Return readings from sums of distances, their numbers, and how many of the anchors violate the margin."""
    return {
        "positive_distance": fraction(within, positives),
        "negative_distance": fraction(between, negatives),
        "margin_violations": fraction(violations, anchors),
    }


def fraction(part: Number, whole: Number) -> Tensor:
    """Return part / whole in float64, 0 where there is nothing."""
    part = torch.as_tensor(part)
    dtype = accumulation_dtype(part.float())
    whole = torch.as_tensor(whole, device=part.device).to(dtype)
    return (part.to(dtype) / whole.masked_fill(whole == 0, 1)).masked_fill(whole == 0, 0)


def at_one_point(output: Any) -> Any:
    """Return the same batch with all embeddings at one point."""
    if isinstance(output, LabelledBatch):
        return output._replace(anchors=torch.ones_like(output.anchors), others=torch.ones_like(output.others))
    return map_tensors(output, torch.ones_like)
