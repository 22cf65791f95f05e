"""Numbers of a configuration beside small tensors."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from losses.core.torch_private import may_read


def constant(value: float, like: Tensor) -> Tensor | float:
    """Return a number to calculate with beside a tensor, in a derivative by hand.

    One of Python is made a tensor by every operation, which on a CPU takes as long as the operation on a thousand
    elements; so it is one already, of no dimensions, where nobody sees how things are made.
    """
    return as_tensor(value, like.dtype) if may_read(like) else value


@lru_cache(maxsize=128)
def as_tensor(value: float, dtype: torch.dtype) -> Tensor:
    """Return a number as a tensor of no dimensions, to be read only."""
    return torch.tensor(value, dtype=dtype, device="cpu")
