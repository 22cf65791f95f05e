"""What a batch of embeddings tells beside its loss: are classes apart, is anything left to learn, has everything
collapsed?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from losses.core.labelled import LabelledBatch, labelled_batch
from losses.core.outputs import Pairs, Triplets
from losses.ops.distances import pairwise_distance, rowwise_distance, wide
from losses.ops.spectrum import effective_rank
from losses.ops.whole_batch import tileable, tiles_of

if TYPE_CHECKING:
    from losses.core.loss import Loss

Readings = dict[str, Tensor]


def readings_of(
    loss: Loss,
    output: LabelledBatch | Pairs | Triplets,
    target: Tensor | None,
    *,
    active: Tensor,
    distance: str,
    gap: float,
) -> Readings:
    """Return the readings of a loss of embeddings on an accepted batch.

    Args:
        loss: whose value says how near to collapse the batch is.
        output, target: as the loss takes them.
        active: share of the items that still cost something.
        distance: in which positives and negatives are measured.
        gap: by how much more than its farthest positive the nearest negative of an anchor should be away.
    """
    if isinstance(output, LabelledBatch):
        apart, points = separation(output, distance, gap), output.anchors
    elif isinstance(output, Triplets):
        near, far = (rowwise_distance(output.anchor, other, distance) for other in (output.positive, output.negative))
        apart, points = figures(near.sum(), len(near), far.sum(), len(far), active, 1), torch.cat(output)
    elif target is None:
        apart, points = separation(views_of(output), distance, gap), torch.cat(output)
    else:
        distances, same = rowwise_distance(*output, distance), target > 0
        sums = (distances * same).sum(), same.sum(), (distances * ~same).sum(), (~same).sum()
        apart, points = figures(*sums, active, 1), torch.cat(output)
    overall = (
        averaged(loss, "all") if hasattr(loss, "average") else loss
    )  # what still costs something costs about a margin, collapsed or not
    value, at_one_point = overall.mean(output, target), overall.mean(at_one(output), target)
    return {
        "active_fraction": active,
        **apart,
        "collapse": share(value, at_one_point),
        "effective_rank": effective_rank(points),
    }


def averaged(loss: Any, average: str) -> Any:
    """Return the same loss with another average."""
    other = copy.copy(loss)
    other.average = average
    return other


def at_one(output: LabelledBatch | Pairs | Triplets) -> LabelledBatch | Pairs | Triplets:
    """Return the same batch with all embeddings at one point."""
    if isinstance(output, LabelledBatch):
        return output._replace(anchors=torch.ones_like(output.anchors), others=torch.ones_like(output.others))
    return type(output)(*(torch.ones_like(part) for part in output))


def views_of(pairs: Pairs) -> LabelledBatch:
    """Return matching rows as one batch in which every sample is a class of two."""
    return labelled_batch(torch.cat(pairs), torch.arange(len(pairs.first), device=pairs.first.device).repeat(2))


def separation(batch: LabelledBatch, distance: str, gap: float) -> Readings:
    """Return mean distances within and between classes, and the share of anchors whose classes are not a gap apart."""
    if not tileable(batch):
        distances = pairwise_distance(batch.anchors, batch.others, distance)
        distances = distances.to(wide(distances))
        positive, negative = batch.occurrences()
        # so that a batch without others has a nearest one too
        none = distances.new_full((len(distances), 1), torch.inf)
        farthest = torch.cat([distances.masked_fill(positive == 0, -torch.inf), -none], 1).amax(1)
        nearest = torch.cat([distances.masked_fill(negative == 0, torch.inf), none], 1).amin(1)
        has_both = (positive > 0).any(1) & (negative > 0).any(1)
        sums = (distances * positive).sum(), positive.sum(), (distances * negative).sum(), negative.sum()
        return figures(*sums, ((farthest + gap >= nearest) & has_both).sum(), has_both.sum())
    tiles, classes = tiles_of(batch, distance)
    within, between, violations = torch.zeros(3, dtype=torch.float64, device=batch.anchors.device)
    has_both = (classes.positives > 0) & (classes.negatives > 0)
    for tile in tiles:
        near, band = classes.near(tile), classes.band(tile)
        own = classes.own(tile, band)
        positives = tile.values.gather(1, near.column).masked_fill_(~near.exists, 0)
        within += positives.sum(1).sum(dtype=torch.float64)
        tile.values[:, band].masked_fill_(own, 0)
        between += tile.values.sum(1).sum(dtype=torch.float64)
        if positives.shape[1]:
            tile.values[:, band].masked_fill_(own, torch.inf)
            farthest = positives.masked_fill_(~near.exists, -torch.inf).amax(1)
            violations += ((farthest + gap >= tile.values.amin(1)) & has_both[tile.rows]).sum()
    return figures(within, classes.positives.sum(), between, classes.negatives.sum(), violations, has_both.sum())


def figures(
    within: Tensor,
    positives: Tensor | int,
    between: Tensor,
    negatives: Tensor | int,
    violations: Tensor,
    of: Tensor | int,
) -> Readings:
    """Return readings from sums and counts."""
    return {
        "positive_distance": share(within, positives),
        "negative_distance": share(between, negatives),
        "margin_violations": share(violations, of),
    }


def share(part: Tensor, whole: Tensor | float) -> Tensor:
    """Return part / whole in float64, 0 where there is nothing."""
    dtype = wide(part.float())
    whole = torch.as_tensor(whole, device=part.device).to(dtype)
    return (part.to(dtype) / whole.masked_fill(whole == 0, 1)).masked_fill(whole == 0, 0)
