"""The distances of a small set to itself, measured from differences of coordinates, each pair of points once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from losses.core.torch_private import pdist_backward
from losses.ops.dense.compared import Compared
from losses.ops.tiles.sizes import sizes

WITHIN = 1e-5
"""Part of a difference of distances that their rounding may be."""


class PairDistances(Compared):
    """Euclidean distances as ``torch.pdist`` lists them ``(P,)``: in one operation, and as exact as their dtype allows.

    Args:
        points: ``(N, D)``, on a CPU.
        values: their distances.
        follows: whether the gradient of the points will be asked for.
    """

    def __init__(self, points: Tensor, values: Tensor, follows: bool) -> None:
        super().__init__(values.dtype, itself=False, differentiable=follows, reads=True)
        self.points, self.values = points, values

    @classmethod
    def of(cls, points: Tensor, difference: float | None = None) -> PairDistances | None:
        """Return those of points that are few and short; ``None`` of others, where two of them are equal, where squares
        leave the range of the dtype, or where digits are lost that matter.

        Args:
            points: ``(N, D)``.
            difference: of two distances that still counts; none if they are not subtracted from each other.
        """
        if len(points) < 2 or len(points) * points.numel() > sizes().one_by_one:
            return None
        follows = torch.is_grad_enabled() and points.requires_grad
        points = points.detach().contiguous()
        values = torch.pdist(points)
        least, most = values.aminmax()
        range_ = torch.finfo(points.dtype)
        if not range_.tiny**0.25 < least.item() <= most.item() < range_.max**0.25:
            return None
        if difference is not None and most.item() > WITHIN / range_.eps * max(difference, least.item()):
            return None
        return cls(points, values, follows)

    def of_ends(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the first and the second point of every pair have, of values ``(N,)``."""
        places = places_of_pairs(len(self.points))
        return values.take(places.first), values.take(places.second)

    def gradients(self, slopes: Tensor, scale: float = 1.0) -> tuple[Tensor | None, Tensor | None]:
        slopes = slopes.mul_(scale)
        if slopes.ndim == 1:
            return pdist_backward(slopes, self.points, self.values), None
        return torch.stack([pdist_backward(part, self.points, self.values) for part in slopes]), None


class DistancesOneByOne(Compared):
    """The matrix ``(N, N)`` of distances from the list of them, infinite where a point meets itself."""

    measure = "euclidean"

    def __init__(self, pairs: PairDistances) -> None:
        super().__init__(pairs.dtype, itself=True, differentiable=pairs.differentiable, reads=True)
        self._pairs = pairs
        self._places = places_of_pairs(len(pairs.points))
        self.values = self.at_itself(pairs.values.take(self._places.of_entries), torch.inf)

    def gradients(self, slopes: Tensor, scale: float = 1.0) -> tuple[Tensor | None, Tensor | None]:
        both, places = slopes + slopes.mT, self._places.in_square
        of_pairs = both.take(places) if both.ndim == 2 else both.flatten(-2).index_select(-1, places)
        return self._pairs.gradients(of_pairs, scale)


class Places:
    """Where the pairs of N points stand.

    Args:
        size: N.
    """

    def __init__(self, size: int) -> None:
        self.first, self.second = torch.triu_indices(size, size, 1, device="cpu")
        """The points of every pair ``(P,)``."""
        self.in_square = self.first * size + self.second
        """Entry of the flattened matrix for every pair ``(P,)``."""
        self.of_entries = torch.zeros(size, size, dtype=torch.long, device="cpu")
        """Pair for every entry of the matrix ``(N, N)``; any where a point meets itself."""
        pairs = torch.arange(len(self.first), device="cpu")
        self.of_entries[self.first, self.second] = self.of_entries[self.second, self.first] = pairs


@lru_cache(maxsize=16)
def places_of_pairs(size: int) -> Places:
    """Return where the pairs of so many points stand."""
    return Places(size)
