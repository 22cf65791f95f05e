"""Triplets of a labelled batch, without ever listing them.

Everything here works on a matrix of distances ``(N, M)`` from N anchors to M others and the masks of who is of the same
class (positive) and who of another (negative). Nothing of size N x N x N is built at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.ops.log_space import softplus

BLOCK = 1 << 22  # elements of the largest temporary


class AnchorSums(NamedTuple):
    """For every anchor ``(N,)``: the sum over its triplets, how many of them still cost something, and how many it has."""

    sum: Tensor
    active: Tensor
    triplets: Tensor


class Chosen(NamedTuple):
    """One negative chosen for some positives: index of the positive and of the negative, and which choices exist."""

    positive: Tensor
    negative: Tensor
    exists: Tensor


def hinge_of_all(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> AnchorSums:
    """Return the sums of max(0, d_ap - d_an + margin) over all triplets, exactly, by counting instead of forming them.

    A triplet is active where its threshold d_ap + margin lies above d_an. With c_ap the number of negatives below the
    threshold of p, and c_an the number of thresholds above the negative n, the sum over all triplets is
    sum(c_ap (d_ap + margin)) - sum(c_an d_an): linear in the distances, so the counts are also the gradient.
    """
    with torch.no_grad():
        thresholds = (distances + margin).masked_fill(~positive, -torch.inf)
        rivals = distances.masked_fill(~negative, torch.inf)
        below = torch.searchsorted(rivals.sort(1).values, thresholds)
        above = distances.shape[1] - torch.searchsorted(thresholds.sort(1).values, rivals, right=True)
        # every anchor has as many c_ap as c_an, so a constant may be taken from its distances: smaller numbers, less rounding
        centre = distances.mean(1, keepdim=True) if distances.shape[1] else 0
    centred = distances - centre
    gain = below.to(distances.dtype) * (centred + margin) - above.to(distances.dtype) * centred
    return AnchorSums(gain.sum(1), below.sum(1), positive.sum(1) * negative.sum(1))


def blocks_of_all(distances: Tensor, positive: Tensor, negative: Tensor, margin: float | None, between: Tensor | None = None) -> AnchorSums:
    """Return the sums of :func:`cost` over all triplets where counting cannot give them, block by block of anchors.

    Blocks are computed again in backward, so that only one is ever in memory.

    Args:
        distances, positive, negative: ``(N, M)``.
        margin: of the hinge; ``None`` is the soft margin.
        between: distances among the others ``(M, M)``; with them the negative counts at min(d_an, d_pn).
    """

    def block(near: Tensor, same: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        far = near.unsqueeze(1) if between is None else torch.minimum(near.unsqueeze(1), between)
        values = cost(near.unsqueeze(2) - far, margin) * (same.unsqueeze(2) & other.unsqueeze(1))
        return values.sum((1, 2)), (values > 0).sum((1, 2))

    rows = max(1, BLOCK // max(1, distances.shape[1] ** 2))
    parts = zip(*(torch.split(part, rows) for part in (distances, positive, negative)), strict=True)
    again = not torch._C._are_functorch_transforms_active()  # transforms do not know checkpoints
    columns = zip(*(checkpoint(block, *part, use_reentrant=False) if again else block(*part) for part in parts), strict=True)
    sums, active = (torch.cat(column) for column in columns)
    count = positive.sum(1) * negative.sum(1)
    return AnchorSums(sums, count if margin is None else active, count)


def cost(difference: Tensor, margin: float | None) -> Tensor:
    """Return what d_ap - d_an costs: max(0, . + margin), or log(1 + exp(.)) for a soft margin."""
    return softplus(difference) if margin is None else (difference + margin).relu()


@torch.no_grad()
def hardest(distances: Tensor, positive: Tensor, negative: Tensor) -> Chosen:
    """Return for every anchor ``(N,)`` its farthest positive and its nearest negative."""
    if distances.shape[1] == 0:
        nothing = torch.zeros(len(distances), dtype=torch.long, device=distances.device)
        return Chosen(nothing, nothing, nothing.bool())
    return Chosen(
        distances.masked_fill(~positive, -torch.inf).argmax(1),
        distances.masked_fill(~negative, torch.inf).argmin(1),
        positive.any(1) & negative.any(1),
    )


@torch.no_grad()
def semi_hard(distances: Tensor, positive: Tensor, negative: Tensor) -> Chosen:
    """Return for every anchor and positive ``(N, M)`` the nearest negative farther away than it, else the farthest negative."""
    rivals, order = distances.masked_fill(~negative, torch.inf).sort(1)
    farther = torch.searchsorted(rivals, distances.contiguous(), right=True)
    last = negative.sum(1, keepdim=True) - 1
    chosen = torch.minimum(farther, last).clamp(min=0)
    itself = torch.arange(distances.shape[1], device=distances.device).expand_as(order)
    return Chosen(itself, order.gather(1, chosen), positive & (last >= 0))
