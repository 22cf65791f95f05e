"""When a derivative taken by hand may stand in for the plain composition."""

from __future__ import annotations

from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from losses.core.device import on_cpu
from losses.core.torch_private import (
    has_own_operations,
    left_alone,
    may_read,
    tangents_may_exist,
    transforms_are_active,
)

__all__ = ["is_dual", "is_eager", "is_launched", "left_alone", "may_read", "on_cpu", "tangents_may_exist"]


def is_eager(*tensors: Tensor | None) -> bool:
    """Return whether a derivative by hand can stand in for the plain composition: nobody traces, transforms or
    differentiates forward.

    Blocks add up in float64, so not on a device without it either.
    """
    if is_compiling() or transforms_are_active():
        return False
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type in ("meta", "mps") or has_own_operations(tensor) or is_dual(tensor):
            return False
    return True


def is_launched(tensor: Tensor, *others: Tensor | None) -> bool:
    """Return whether every operation on a tensor is a launch, and a derivative by hand may save some."""
    return not on_cpu(tensor) and is_eager(tensor, *others)


def is_dual(tensor: Tensor) -> bool:
    """Return whether a tensor carries a tangent of forward-mode differentiation."""
    return tangents_may_exist() and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]  # torch leaves it untyped
