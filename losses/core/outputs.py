"""What a network returns when one tensor is not enough: NamedTuples that losses take as ``output``.

They are ordinary tuples, so ``torch.compile``, ``torch.export``, ``vmap`` and DistributedDataParallel carry them, and a
plain tuple of the same length is accepted in their place.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pairs(NamedTuple):
    """Two batches of embeddings ``(N, D)``; row i of ``first`` is compared with row i of ``second``."""

    first: Tensor
    second: Tensor


class Triplets(NamedTuple):
    """Three batches of embeddings ``(N, D)``; each anchor belongs with its positive and not with its negative."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class Samples(NamedTuple):
    """Samples of a distribution, ``points`` ``(..., N)``, and ``weights`` ``(..., N)`` that are normalised; ``None`` is
    equal ones."""

    points: Tensor
    weights: Tensor | None = None


class VAEOutput(NamedTuple):
    """A reconstruction ``(N, ...)`` with the mean and log-variance ``(N, D)`` of the approximate posterior."""

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor
