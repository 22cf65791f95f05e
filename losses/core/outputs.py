"""What a network returns when one tensor is not enough: NamedTuples that losses take as ``output``.

They are ordinary tuples, so ``torch.compile``, ``torch.export``, ``vmap`` and DistributedDataParallel carry them, and a
plain tuple of the same length is accepted in their place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
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


class LinearLogits(NamedTuple):
    """The logits ``features @ weight.T + bias`` of a linear layer, of which a loss never makes all at once.

    ``features`` ``(N, ..., D)`` are what the layer is given, ``weight`` ``(C, D)`` and ``bias`` ``(C,)``, which may be
    ``None``, those of a ``torch.nn.Linear``. Half precision is computed in float32, in a copy of the weight.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None

    @property
    def positions(self) -> torch.Size:
        """The shape of the features without their last dimension: one entry per item."""
        return self.features.shape[:-1]

    @property
    def classes(self) -> int:
        """How many logits every position has."""
        return self.weight.shape[0]


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


class Gaussian(NamedTuple):
    """A mean and the logarithm of a variance, both ``(*)``, for each number that is predicted."""

    mean: Tensor
    log_variance: Tensor


def tensors_in(part: Any) -> list[Tensor]:
    """Return the tensors of an output or target, whatever its kind."""
    if isinstance(part, Tensor):
        return [part]
    return [tensor for inner in part for tensor in tensors_in(inner)] if isinstance(part, tuple) else []


def map_tensors(part: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return an output or target with every tensor changed, labels included."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, tuple):
        make: Any = type(part)
        parts = (map_tensors(inner, change) for inner in part)
        return make(*parts) if hasattr(part, "_fields") else make(parts)
    return part


def map_samples(part: Any, change: Callable[[Tensor], Any], shared: Callable[[Tensor], Any] | None = None) -> Any:
    """Return an output or target with every tensor changed that holds a row for each sample; those that all samples
    share, as the weight of a linear layer, stay, or are changed by ``shared``."""
    if not isinstance(part, LinearLogits):
        return map_tensors(part, change)
    layer = part[1:] if shared is None else map_tensors(part[1:], shared)
    return LinearLogits(change(part.features), *layer)


def holds_samples(output: Any) -> list[bool]:
    """Return of each of the :func:`tensors_in` an output whether it holds a row for each sample."""
    shared = isinstance(output, LinearLogits)
    return [not (shared and place) for place, _ in enumerate(tensors_in(output))]


def map_floating(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return an output or target with every floating tensor changed."""
    return map_tensors(part, lambda tensor: change(tensor) if tensor.dtype.is_floating_point else tensor)
