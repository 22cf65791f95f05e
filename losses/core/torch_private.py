"""The few private parts of torch that the package asks, and what it does where a version of torch lacks one.

Nothing else in the package names a private part. Where one is missing the answer is the careful one: the plain
composition in place of blocks, no values read, the public operation in place of the inner one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_any_autocast = getattr(torch._C, "_is_any_autocast_enabled", None)
_transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active", None)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", None)


def any_autocast() -> bool:
    """Return whether autocast may be on for some device; where torch does not tell, each device has to be asked."""
    return _any_autocast is None or bool(_any_autocast())


def transforms_are_active() -> bool:
    """Return whether ``torch.func`` is transforming what is called, or may be: then no value can be read, and only
    plain operations are understood."""
    return _transforms_are_active is None or bool(_transforms_are_active())


def is_dispatched_to_python() -> bool:
    """Return whether somebody records or replaces the operations that are called, or may do so."""
    return _modes is None or _modes() > 0


def nll_loss_forward() -> Callable[..., Any] | None:
    """Return the inner operation of ``F.nll_loss``, which tells the count beside the mean."""
    return getattr(getattr(torch.ops.aten, "nll_loss_forward", None), "default", None)


def dispatch_mode() -> type[Any] | None:
    """Return the class whose ``__torch_dispatch__`` sees every operation, if torch has it."""
    try:
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        return None
    return TorchDispatchMode


def storage_reference(tensor: Tensor) -> Callable[[], bool]:
    """Return a function that tells whether the memory of a tensor is still in use, and keeps nothing alive itself;
    where torch does not tell, it never is."""
    try:
        from torch.multiprocessing.reductions import StorageWeakRef
    except ImportError:
        return lambda: False
    untyped: Any = StorageWeakRef  # as torch leaves it
    reference = untyped(tensor.untyped_storage())
    return lambda: not reference.expired()
