"""A CPU that is taken for an accelerator: what is chosen there, in values, gradients and number of operations, can be
looked at on any machine."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from losses.core import device
from losses.core.torch_private import dispatch_mode

FREE = {"alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "new_empty",
    "new_empty_strided", "permute", "select", "slice", "split", "squeeze", "t", "transpose", "unbind", "unsqueeze",
    "view", "_unsafe_view", "lift_fresh"}  # fmt: skip
"""Operations for which nothing is launched."""


@contextlib.contextmanager
def accelerator() -> Iterator[None]:
    """Do as where no CPU computes."""
    name, original = "on_cpu", device.on_cpu
    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name) is original:
                patch.setattr(module, name, lambda tensor: False)
        yield


class Operations(dispatch_mode() or object):  # type: ignore[misc]
    """Count what would be launched."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names[name] += name not in FREE
        return func(*args, **(kwargs or {}))


def launches(step: Callable[[], object]) -> int:
    """Return how many operations a step launches on an accelerator, the second time."""
    with accelerator():
        step()
        with Operations() as seen:
            step()
    return seen.names.total()
