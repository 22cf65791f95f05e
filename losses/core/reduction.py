"""The one averaging convention of the package; it exists nowhere else.

A loss is a set of items with values l_i and weights w_i. The mean is sum(w_i l_i) / sum(w_i): an item of weight 0
changes nothing, and where no item has any weight the mean is 0 with a graph and zero gradient, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.errors import InputError, quoted


class Total(NamedTuple):
    """The weighted sum of a loss's items and the sum of their weights: what is added over batches and over ranks.

    Both are scalars, or vectors with one entry per mean for a loss whose value is a sum of several means.
    """

    sum: Tensor
    weight: Tensor | int


def weighted(items: Tensor, weight: Tensor | None) -> Tensor:
    """Return the items times their weights; a weight covers the items or their leading dimensions."""
    if weight is None:
        return items
    weight = spread(weight, items.shape)
    return items.masked_fill(weight == 0, 0) * weight  # an infinite item of weight 0 is 0 too


def spread(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return ``weight`` in the shape of the items: the same shape already, or one weight for each leading index."""
    if weight.shape != shape[: weight.ndim]:
        raise InputError(
            f"weight has shape {tuple(weight.shape)}, the items have shape {tuple(shape)}; "
            "give one weight per item or per leading index (nothing else is broadcast)"
        )
    return weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)).expand(shape)


def accepted_normalizer(normalizer: object, *, inspect: bool) -> Tensor | float:
    """Return a normalizer that is a number of at least 0 or a real tensor, its values read if ``inspect``."""
    if isinstance(normalizer, Tensor):
        if normalizer.dtype.is_complex:
            raise InputError(f"normalizer must be real, got {normalizer.dtype}; pass the number of items")
        if inspect and not normalizer.is_meta and not bool((normalizer.float() >= 0).all()):
            raise InputError(f"normalizer must be at least 0, got {normalizer.tolist()}; pass the number of items")
        return normalizer
    if isinstance(normalizer, int | float | torch.SymInt) and not isinstance(normalizer, bool):
        try:
            number = float(normalizer)
        except OverflowError:
            number = math.inf
        if 0 <= number < math.inf:
            return number
    raise InputError(
        f"normalizer must be a finite number of at least 0 or a tensor, got {quoted(normalizer)}; pass the number of "
        "items"
    )


def total_of(items: Tensor, weight: Tensor | None = None, mass: Tensor | None = None) -> Total:
    """Return the total of items.

    Args:
        items: values, already scaled by whatever weight the loss itself gives an item.
        weight: what the caller weighs items by; ``None`` is 1 for each.
        mass: what an item of weight 1 adds to the denominator; ``None`` is 1 for each.
    """
    if weight is None and mass is None:
        return Total(items.sum(), items.numel())
    if weight is None:
        assert mass is not None
        return Total(items.sum(), mass.sum())
    mass = spread(weight, items.shape) if mass is None else weighted(mass, weight)
    return Total(weighted(items, weight).sum(), mass.sum())


def mean_of(total: Total, normalizer: Tensor | float | None = None) -> Tensor:
    """Return sum / weight, or sum / normalizer; several means are added; a denominator of 0 gives 0 with a graph."""
    denominator = total.weight if normalizer is None else normalizer
    smallest = torch.finfo(total.sum.dtype).tiny  # of a number that can be divided by
    if isinstance(denominator, Tensor):
        if denominator.ndim and denominator.shape != total.sum.shape:
            raise InputError(
                f"normalizer has shape {tuple(denominator.shape)}, the sum has shape {tuple(total.sum.shape)}; give a "
                "number"
            )
        denominator = denominator.to(total.sum.dtype)
        nothing = denominator < smallest
        mean = (total.sum / denominator.masked_fill(nothing, 1)).masked_fill(nothing, 0)
    elif denominator >= smallest:
        mean = total.sum / denominator
    else:
        # 0 times an infinite sum were NaN
        mean = total.sum.masked_fill(torch.ones_like(total.sum, dtype=torch.bool), 0)
    return mean.sum() if mean.ndim else mean
