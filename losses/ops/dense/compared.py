"""What points of a small batch measure to one another, as the losses look at it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from losses.ops.numerics.constants import as_tensor


class Compared(ABC):
    """Distances or similarities of two small sets, or of a set with itself.

    Args:
        dtype: of the values.
        itself: whether a set is compared with itself, in a matrix ``(N, N)``.
        differentiable: whether a gradient will be asked for.
        reads: whether a CPU computes, where a number can be read.
    """

    values: Tensor
    """``(N, M)``, or a list of them ``(P,)``."""

    def __init__(self, dtype: torch.dtype, *, itself: bool, differentiable: bool, reads: bool) -> None:
        self.dtype, self.itself, self.differentiable, self.reads = dtype, itself, differentiable, reads

    @abstractmethod
    def gradients(self, slopes: Tensor, scale: float = 1.0) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the first ``(..., N, D)`` and of the second, each ``None`` where none was asked for.

        Args:
            slopes: a derivative by the values ``(..., N, M)``, 0 where a point meets itself; it is overwritten, as the
                values may be, which have had their use.
            scale: of the slopes.
        """

    @property
    def number_of_pairs(self) -> float:
        """How many pairs there are, each once."""
        number = self.values.numel()
        return (number - len(self.values)) / 2 if self.itself else number

    def at_itself(self, values: Tensor, value: float) -> Tensor:
        """Set the entries where a point of a set meets itself."""
        return values.fill_diagonal_(value) if self.itself else values

    def number(self, value: float) -> Tensor | float:
        """Return a number of the configuration to calculate with, see :mod:`losses.ops.numerics.constants`."""
        return as_tensor(value, self.dtype) if self.reads else value

    def total(self, values: Tensor) -> Tensor | float:
        """Return the sum of all values, to divide by, see :meth:`read`."""
        return self.read(values.sum())

    def read(self, number: Tensor) -> Tensor | float:
        """Return a number, or the tensor ``()`` where nobody reads it."""
        return number.item() if self.reads else number
