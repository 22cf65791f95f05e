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
    slopes = weighted
    if power == 1:
        slopes = signed.sign() if weights is None else signed.sign().mul_(weights)
    slopes_or_none = slopes if compared.differentiable else None
    # so few numbers that the sum of their signs counts them: several times faster than to compare and to count
    signs = None
    if average != "all" and weights is None and compared.reads:
        signs = slopes if power == 1 else signed.sign()
    if average == "balanced":
        items = weighted if power == 1 else weighted * signed.abs()
        costs = of_both(compared, items.clamp(min=0), items.clamp(max=0), once / power, -once / power)
        if signs is None:
            above, below = (kind if weights is None else kind * weights for kind in (signed > 0, signed < 0))
            return DenseSums(costs, of_both(compared, above, below, once, once), slopes_or_none, once)
        both, surplus = (number.sum().item() * once for number in (signs.abs(), signs))
        return DenseSums(costs, ((both + surplus) / 2, (both - surplus) / 2), slopes_or_none, once)
    cost = (weighted.abs() if power == 1 else weighted * signed).sum()
    if average == "active":
        if signs is not None:
            number = signs.abs().sum()
        else:
            number = signed.count_nonzero() if weights is None else ((signed != 0) * weights).sum()
        counted = compared.read(number) * once
    else:
        counted = compared.number_of_pairs
        if weight is not None:
            counted = compared.total(weight) * (counted / len(weight))
    return DenseSums(cost, counted, slopes_or_none, once, once / power)


def of_both(
    compared: Compared, first: Tensor, second: Tensor, scale: float, scale_of_second: float
) -> Tensor | tuple[float, float]:
    """Return the sums over both kinds of pairs, each times its scale: two numbers, or ``(2,)`` where nobody reads
    them."""
    if compared.reads:
        return first.sum().item() * scale, second.sum().item() * scale_of_second
    return torch.stack([first.sum() * scale, second.sum() * scale_of_second])


def entry_weights(compared: Compared, weight: Tensor | None) -> Tensor | None:
    """Return what every entry weighs: its anchor's weight, that of a listed pair, or half the mean of both ends where
    every pair stands in two places."""
    if weight is None:
        return None
    return (weight + weight.mT) / 4 if compared.itself else weight
