"""Where tensors lie, as far as it decides how something is computed."""

from __future__ import annotations

from torch import Tensor


def on_cpu(tensor: Tensor) -> bool:
    """Return whether a CPU computes with a tensor.

    Elsewhere every operation is a launch, which costs more than a small batch, and reading a value means to wait for
    it: few operations count, and their temporaries need not fit into a cache.
    """
    return tensor.is_cpu
