"""The contrastive loss over all pairs of a small batch."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.dense.compared import Compared
from losses.ops.dense.differentiable import DenseSums


def dense_contrastive(
    compared: Compared,
    positive: Tensor,
    weight: Tensor | None,
    *,
    margin: float,
    positive_margin: float,
    power: int,
    average: str,
) -> DenseSums:
    """Return the sums and counts of :func:`losses.ops.pairs.contrastive.tiled_contrastive`.

    What pairs of one class exceed their margin by is positive here, what others fall short of theirs by negative: so
    both kinds stand side by side, and the sign is that of the derivative too.
    """
    values = compared.values
    short = (values - compared.number(margin)).clamp_(max=0)
    excess = (values - compared.number(positive_margin)).relu_() if positive_margin else values
    signed = compared.at_itself(short.lerp_(excess, positive), 0)  # positive is 0 or 1: the one or the other
    once = 0.5 if weight is None and compared.itself else 1.0  # every pair stands in two places
    weights = entry_weights(compared, weight)
    weighted = signed if weights is None else signed * weights  # before it is squared, as a square can overflow
    active = weighted if power == 2 and average == "all" else signs(signed, weights)
    slopes_or_none = (weighted if power == 2 else active) if compared.differentiable else None
    if average == "balanced":
        items = weighted if power == 1 else weighted * signed.abs()
        of_items, of_active = of_both(compared, items, once / power), of_both(compared, active, once)
        return DenseSums(of_items, of_active, slopes_or_none, once)
    cost = (weighted.abs() if power == 1 else weighted * signed).sum()
    if average == "active":
        counted = compared.total(active.abs()) * once
    else:
        counted = compared.number_of_pairs
        if weight is not None:
            counted = compared.total(weight) * (counted / len(weight))
    return DenseSums(cost, counted, slopes_or_none, once, once / power)


def signs(signed: Tensor, weights: Tensor | None) -> Tensor:
    """Return 1, -1 or 0 for every entry, as it weighs."""
    return signed.sign() if weights is None else signed.sign().mul_(weights)


def of_both(compared: Compared, signed: Tensor, scale: float) -> Tensor | tuple[float, float]:
    """Return the sum of what is positive and that of what is negative, without its sign: two numbers, or ``(2,)`` where
    nobody reads them."""
    above, below = signed.clamp(min=0).sum(), signed.clamp(max=0).sum()
    if compared.reads:
        return above.item() * scale, -below.item() * scale
    return torch.stack([above, below.neg()]) * scale


def entry_weights(compared: Compared, weight: Tensor | None) -> Tensor | None:
    """Return what every entry weighs: its anchor's weight, that of a listed pair, or half the mean of both ends where
    every pair stands in two places."""
    if weight is None:
        return None
    return (weight + weight.mT) / 4 if compared.itself else weight
