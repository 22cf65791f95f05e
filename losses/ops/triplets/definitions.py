"""Triplets of a labelled batch as plain compositions: the readable form of every sum.

All are made from the matrix of distances ``(N, M)`` from N anchors to M others and the masks of who is of the same
class (positive) and who of another (negative). The files beside this one hold the tiled functions that equal them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_exporting
from torch.utils.checkpoint import checkpoint

from losses.core.device import on_cpu
from losses.core.torch_private import transforms_are_active
from losses.ops.numerics.log_space import softplus
from losses.ops.numerics.searching import searchsorted
from losses.ops.tiles.sizes import sizes


class Compared(NamedTuple):
    """All distances of a labelled batch ``(N, M)`` and who is of the same and of another class.

    ``between`` are the distances among the others ``(M, M)``; with them a negative counts at min(d_an, d_pn).
    ``beyond`` are the distances ``(N, M)`` that a negative has to exceed to be farther than each, by default they
    themselves.
    """

    distances: Tensor
    positive: Tensor
    negative: Tensor
    between: Tensor | None = None
    beyond: Tensor | None = None


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


def farthest_told(distances: Tensor) -> Tensor:
    """Return distances of negatives with the largest number in place of infinity: a positive infinitely far away is
    farther still, where the difference would be NaN."""
    # a converter to ONNX takes no number that float32 cannot hold
    dtype = torch.float32 if is_exporting() else distances.dtype
    return distances.clamp(max=torch.finfo(dtype).max)


def items_of_all(compared: Compared, margin: float | None) -> Tensor:
    """Return the cost of every triplet, ordered by anchor, positive, negative: the definition of what is summed
    below."""
    distances, positive, negative, between, _ = compared
    if is_exporting():  # a program has no loop over rows
        costs, exists = cube_of_all(distances, positive, negative, between, margin)
        return costs[exists]
    rows = []
    for row, same, other in zip(distances, positive, negative, strict=True):
        far = farthest_told(row[other]).expand(int(same.sum()), -1)
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
    distances, positive, negative, *_ = compared
    told, triplets = farthest_told(distances), positive.sum(1) * negative.sum(1)
    with torch.no_grad():
        thresholds = (distances + margin).masked_fill(~positive, -torch.inf)
        rivals = told.masked_fill(~negative, torch.inf)
        below = searchsorted(rivals.sort(1).values, thresholds)
        above = distances.shape[1] - searchsorted(thresholds.sort(1).values, rivals, right=True)
        centre = top(thresholds)
    centred = told - centre
    gain = below.to(distances.dtype) * (centred + margin) - above.to(distances.dtype) * centred
    return AnchorSums(*endless(gain.sum(1), below.sum(1), triplets), triplets)


def top(thresholds: Tensor) -> Tensor:
    """Return the highest threshold of every row ``(N, 1)``, 0 where there is none.

    Every anchor has as many c_ap as c_an, so a constant may be taken from its distances. From here no distance that
    counts is far: what is left to add up are small numbers, with small errors.
    """
    highest = F.pad(thresholds, (0, 1), value=-torch.inf).amax(1, keepdim=True)
    return highest.masked_fill(highest == -torch.inf, 0)


def endless(sums: Tensor, active: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums of anchors, and how many of their triplets cost something, with those that came out as NaN infinite
    and all their triplets active: a threshold is infinite, or what is added and what is taken off overflow both."""
    endless = sums.isnan() & (triplets > 0)
    return torch.where(endless, torch.inf, sums.masked_fill(triplets == 0, 0)), torch.where(endless, triplets, active)


def blocks_of_all(compared: Compared, margin: float | None) -> AnchorSums:
    """Return the sums of :func:`cost` over all triplets where counting cannot give them, block by block of anchors.

    Blocks are computed again in backward, so that only one is ever in memory.
    """
    distances, positive, negative, between, _ = compared

    def block(near: Tensor, same: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        costs, exists = cube_of_all(near, same, other, between, margin)
        values = costs.masked_fill(~exists, 0)
        return values.sum((1, 2)), (values != 0).sum((1, 2))

    if is_exporting():  # nor blocks, as their number depends on the batch
        sums, active = block(distances, positive, negative)
    else:
        elements = sizes().temporary if on_cpu(distances) else sizes().temporary_on_accelerator
        rows = max(1, elements // max(1, distances.shape[1] ** 2))
        parts = list(zip(*(torch.split(part, rows) for part in (distances, positive, negative)), strict=True))
        again = len(parts) > 1 and not transforms_are_active()  # transforms do not know checkpoints
        columns = zip(
            *(checkpoint(block, *part, use_reentrant=False) if again else block(*part) for part in parts), strict=True
        )
        sums, active = (torch.cat(column) for column in columns)
    count = positive.sum(1) * negative.sum(1)
    return AnchorSums(sums, count if margin is None else active, count)


def cube_of_all(
    near: Tensor, same: Tensor, other: Tensor, between: Tensor | None, margin: float | None
) -> tuple[Tensor, Tensor]:
    """Return what every triplet of some anchors costs ``(N, M, M)``, by positive and negative, and which exist."""
    far = farthest_told(near).unsqueeze(1)
    far = far if between is None else torch.minimum(far, between)
    return cost(near.unsqueeze(2) - far, margin), same.unsqueeze(2) & other.unsqueeze(1)


def sums_of_mined(values: Tensor, exists: Tensor, active: Tensor) -> AnchorSums:
    """Return the sums over mined triplets, ``(N,)`` or ``(N, M)``."""
    return AnchorSums(*(part if part.ndim == 1 else part.sum(1) for part in (values, active, exists)))


@torch.no_grad()
def hardest(compared: Compared) -> Chosen:
    """Return for every anchor ``(N,)`` its farthest positive and its nearest negative."""
    distances, positive, negative, *_ = compared
    return Chosen(  # a column at least to choose from
        F.pad(distances.masked_fill(~positive, -torch.inf), (0, 1), value=-torch.inf).argmax(1),
        F.pad(farthest_told(distances).masked_fill(~negative, torch.inf), (0, 1), value=torch.inf).argmin(1),
        positive.any(1) & negative.any(1),
    )


@torch.no_grad()
def semi_hard(compared: Compared) -> Chosen:
    """Return for every anchor and positive ``(N, M)`` the nearest negative farther away than it, else the farthest
    negative."""
    distances, positive, negative, _, beyond = compared
    rivals, order = farthest_told(distances).masked_fill(~negative, torch.inf).sort(1)
    farther = searchsorted(rivals, distances if beyond is None else beyond, right=True)
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
    far = farthest_told(distances.gather(1, negative))
    if between is not None:
        far = torch.minimum(far, between[positive, negative])
    return cost(distances - far, margin).masked_fill(~exists, 0), exists
