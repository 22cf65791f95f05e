"""All of a small set compared with all of another, in one piece, and the way back for a derivative."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.core.device import on_cpu
from losses.core.precision import matched
from losses.core.torch_private import may_read
from losses.ops.dense.compared import Compared
from losses.ops.distances import length
from losses.ops.tiles.blocks import CLOSE, SMALLEST
from losses.ops.tiles.exact import TOO_CLOSE
from losses.ops.tiles.sizes import sizes

EQUAL = 64 * torch.finfo(torch.float64).eps
"""Up to this part of the sum of both squared lengths a squared distance in float64 is rounding: points in float32 that
are so near are equal."""


class DenseMatrix(Compared):
    """The matrix ``(N, M)`` of distances or similarities of two small sets.

    Args:
        first: the rows ``(N, D)``.
        second: the columns ``(M, D)``; ``None`` compares the first with itself.
        measure: ``"euclidean"``, ``"squared_euclidean"``, ``"cosine"`` (1 - the cosine) or ``"similarity"`` (the
            cosine).
        precise: whether distances are in float64 however many there are.
        follows: whether gradients of the first and of the second will be asked for; by default those that autograd asks
            for.

    Distances are in float64 where they are few, as in blocks, so that they tell near points apart; and where no CPU
    computes, as nobody looks there whether they are told: of points in float32 they are. Many are rounded there to the
    dtype of the points once they are made. Where a point meets itself its distance is infinite, and its similarity like
    any other.
    """

    def __init__(
        self,
        first: Tensor,
        second: Tensor | None,
        measure: str,
        *,
        precise: bool = False,
        follows: Sequence[bool] | None = None,
    ) -> None:
        if follows is None:
            wanted = torch.is_grad_enabled()
            follows = wanted and first.requires_grad, wanted and second is not None and second.requires_grad
        pairs = len(first) * len(first if second is None else second)
        reads = may_read(first)
        in_float64 = measure != "similarity" and (precise or pairs <= sizes().exact or not reads)
        dtype = torch.float64 if in_float64 else first.dtype
        super().__init__(dtype, itself=second is None, differentiable=any(follows), reads=reads)
        self.measure, self.follows = measure, follows
        self.lengths: Tensor | None = None
        self.equal: Tensor | None = None
        self.other_lengths: Tensor | None = None
        self.is_told = True
        """Whether the product that all is made from tells the points apart."""
        first, second = first.detach(), None if second is None else second.detach()
        self.closeness = TOO_CLOSE if self.dtype is torch.float64 else CLOSE
        if measure.endswith("euclidean"):
            self._measure_distances(first.to(self.dtype), None if second is None else second.to(self.dtype))
        else:
            self._measure_angles(first, second)
        if not reads and not precise and in_float64 and pairs > sizes().rounded_on_accelerator:
            self.dtype = first.dtype
            self.values = self._rounded(self.values)

    def squares(self) -> Tensor:
        """Return the squared lengths of the rows from the centre of the columns ``(N, 1)``; 1 of angles."""
        return self.first.square().sum(1, keepdim=True) if self.lengths is None else torch.ones_like(self.lengths)

    def gradients(self, slopes: Tensor, scale: float = 1.0) -> tuple[Tensor | None, Tensor | None]:
        if self.measure == "euclidean":
            if self.equal is not None:  # from where there is no direction
                self.values.masked_fill_(self.equal, torch.inf)
            slopes.div_(self.values)
        elif self.measure == "squared_euclidean":
            scale *= 2
        elif self.measure == "cosine":
            scale = -scale
        if self.itself:
            free = None
            if slopes.numel() == self.values.numel():
                free = self.values if slopes.ndim == 2 else self.values.view_as(slopes)
            both = torch.add(slopes, slopes.mT, out=free)
            return self._gradient(both, self.first, self.second, self.lengths, scale), None
        of_first = self._gradient(slopes, self.first, self.second, self.lengths, scale) if self.follows[0] else None
        if not self.follows[1]:
            return of_first, None
        return of_first, self._gradient(slopes.mT, self.second, self.first, self.other_lengths, scale)

    def _measure_angles(self, first: Tensor, second: Tensor | None) -> None:
        if second is not None and second.shape == first.shape and second.dtype is first.dtype:
            units, lengths = (both.unbind() for both in self._units(torch.stack([first, second])))
            (self.first, self.second), (self.lengths, self.other_lengths) = units, lengths
        else:
            self.first, self.lengths = self._units(first)
            self.second, self.other_lengths = (self.first, self.lengths) if second is None else self._units(second)
        self.values = self.first @ self.second.mT
        if self.measure == "cosine":
            self.values = self.at_itself(1 - self.values, torch.inf)
            self.is_told = not self.reads or bool(self.values.amin() > self.closeness)

    def _units(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return points ``(..., N, D)`` at length 1, and the lengths ``(..., N, 1)`` they had (or 1 for 0)."""
        lengths = torch.threshold_(length(points), 0, 1)
        lengths = matched(lengths, points) if self.dtype is points.dtype else lengths
        return points / lengths, lengths

    def _measure_distances(self, first: Tensor, second: Tensor | None) -> None:
        # a translation changes no distance, and small numbers are rounded less
        points = first if second is None else second
        middle = points.sum(0) * self.number(1 / len(points))
        self.first = first - middle
        self.second = self.first if second is None else second - middle
        squares = torch.linalg.vecdot(self.first, self.first)
        limits = squares.unsqueeze(1) + (squares if second is None else torch.linalg.vecdot(self.second, self.second))
        squared = self.at_itself(torch.addmm(limits, self.first, self.second.mT, alpha=-2), torch.inf)
        # nor where squares overflow: infinity less infinity is not above anything
        beyond = torch.sub(squared, limits, alpha=self.closeness if self.reads else EQUAL, out=limits)
        if not self.reads:
            self.equal = beyond <= 0
            squared.masked_fill_(self.equal, 0)
        elif not float(beyond.amin()) > SMALLEST:
            self._tell_equal(squared, torch.logical_not(beyond > SMALLEST), first, first if second is None else second)
        self.values = squared.sqrt_() if self.measure == "euclidean" else squared

    def _tell_equal(self, squared: Tensor, close: Tensor, first: Tensor, second: Tensor) -> None:
        """Write 0 in the place of distances that a product cannot tell, if they are all of points that are equal."""
        row, column = close.nonzero(as_tuple=True)
        # subtracted, as infinities are not equal
        self.is_told = bool((first.index_select(0, row) - second.index_select(0, column) == 0).all())
        squared[row, column] = 0
        self.equal = close

    def _rounded(self, values: Tensor) -> Tensor:
        """Return values in the dtype from now on; squares of distances are large, and none infinite but to itself."""
        if self.measure != "squared_euclidean":
            return values.to(self.dtype)
        return self.at_itself(values.clamp_(max=torch.finfo(self.dtype).max).to(self.dtype), torch.inf)

    def _gradient(self, slopes: Tensor, points: Tensor, others: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
        slopes = matched(slopes, points)
        if lengths is None:  # a derivative w in the direction a - b
            return scaled_product(slopes, others, -scale, slopes.sum(-1, keepdim=True) * points, scale)
        gradient = scaled_product(slopes, others, scale, points, 0)
        # turning a point changes its angles, moving it outwards does not
        outwards = (gradient * points).sum(-1, keepdim=True)
        return gradient.addcmul_(outwards, points, value=-1).div_(lengths)


def scaled_product(first: Tensor, second: Tensor, scale: float, added: Tensor, times: float) -> Tensor:
    """Return a product ``(..., N, D)`` times a scale, with something added so many times, 0 among them."""
    if first.ndim == 2:
        return torch.addmm(added, first, second, beta=times, alpha=scale)
    product = (first @ second).mul_(scale)
    return product.add_(added, alpha=times) if times else product


def is_small(first: Tensor, second: Tensor, measure: str) -> bool:
    """Return whether two sets are best compared in one piece, where nothing is lost by looking at it, or nothing needs
    to be looked at."""
    return are_few(first.shape[0] * second.shape[0], first, measure)


def are_few(pairs: int, first: Tensor, measure: str) -> bool:
    """Return the same of so many pairs of points, some of them the first."""
    if not pairs or not first.shape[1]:
        return False
    if on_cpu(first):
        return pairs <= sizes().dense and may_read(first)
    is_told = measure == "similarity" or first.dtype is not torch.float64
    return pairs <= sizes().dense_on_accelerator and is_told
