"""Collapse: do embeddings use the space they have, or are they all alike?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.diagnostics.metrics import accepted_embeddings, printed
from losses.ops.distances import root, unit
from losses.ops.numerics.spectrum import centred, entropy_rank, leading_variance_ratio


class Collapse(NamedTuple):
    """How far embeddings are from being all alike, as plain numbers; ``_asdict()`` for a log."""

    effective_rank: float
    """How many directions the embeddings use, from 0 (all rows equal) to D."""
    deviation: float
    """Mean distance from the mean embedding, in the unit of the embeddings."""
    leading_variance_ratio: float
    """Share of the variance that lies in one direction, from 1 / D (none is preferred) to 1 (a line, or a point)."""
    mean_cosine: float
    """Mean cosine between different rows: 1 if all point the same way, about 0 if they point everywhere."""
    dead_dimensions: float
    """Share of the dimensions in which all rows are equal."""

    def __repr__(self) -> str:
        return printed(self)


@torch.no_grad()
def collapse(embeddings: Tensor) -> Collapse:
    r"""Return how far embeddings have collapsed to a point, a line or a few dimensions.

    With the singular values :math:`\sigma_k` of the embeddings less their mean :math:`\bar z`,

    .. math::
        \text{effective rank} = \exp\Big(-\sum_k p_k \log p_k\Big), \; p_k = \frac{\sigma_k}{\sum_j \sigma_j} \qquad
        \text{deviation} = \frac{1}{N} \sum_i |z_i - \bar z| \qquad
        \text{leading variance ratio} = \frac{\sigma_1^2}{\sum_k \sigma_k^2}

    Some authors take :math:`\sigma_k^2` in place of :math:`\sigma_k` in the entropy, or do not take the
    mean away; the metrics differ, so compare like with like. The rank is at most N - 1 as well as D: take several times
    more rows than dimensions.

    Args:
        embeddings: of as many samples as you like; their classes do not matter.

    Shapes:
        embeddings: ``(N, D)``. All rows equal, fewer than two of them, or D = 0 are complete collapse: effective rank
        and deviation 0, both ratios 1. The mean cosine is 1 of fewer than two rows; a row of zeros has cosine 0
        with every other.

    Units:
        ``deviation`` is in the unit of the embeddings; the others are pure numbers, and scaling changes none.

    Raises:
        InputError: ``embeddings`` are not ``(N, D)`` and floating point, or hold NaN or infinity.

    Source:
        O. Roy, M. Vetterli, The Effective Rank: A Measure of Effective Dimensionality, 2007, EUSIPCO.

    >>> corners = tensor([[1.0, 1, 5], [1, -1, 5], [-1, 1, 5], [-1, -1, 5]])  # a square, far from 0
    >>> collapse(corners)  # cosines: four of 25 / 27, two of 23 / 27
    Collapse(effective_rank=2, deviation=1.414, leading_variance_ratio=0.5, mean_cosine=0.9012, dead_dimensions=0.3333)
    """
    (embeddings,) = accepted_embeddings(embeddings=embeddings)
    size, dimensions = embeddings.shape
    residual = centred(embeddings)
    singular = torch.linalg.svdvals(residual)
    units = unit(embeddings)
    same_way = units.sum(0).square().sum() - units.square().sum()
    return Collapse(
        effective_rank=float(entropy_rank(singular)),
        deviation=float(root(residual.square().sum(1)).mean()) if size else 0.0,
        leading_variance_ratio=float(leading_variance_ratio(singular)),
        mean_cosine=float(same_way) / (size * (size - 1)) if size > 1 else 1.0,
        dead_dimensions=float((embeddings == embeddings[:1]).all(0).double().mean()) if dimensions else 1.0,
    )
