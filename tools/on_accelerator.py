"""Losses that compute on another device than the one their batches lie on, so that the contract, whose batches lie on
the CPU, can be run on a GPU."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils._pytree import tree_leaves, tree_map_only

from losses.core.loss import Loss

CALLED = ("forward", "total", "part_total", "readings", "terms")
"""The ways into a loss, as the contract takes them."""


@contextlib.contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Let every loss that is called with tensors of the CPU take them to a device, and bring back what it returns."""
    with pytest.MonkeyPatch.context() as patch:
        for cls in subclasses(Loss):
            for name in CALLED:
                if name in vars(cls):
                    patch.setattr(cls, name, moving(vars(cls)[name], device))
        yield


def subclasses(cls: type) -> set[type]:
    return {cls}.union(*(subclasses(each) for each in cls.__subclasses__()))


def moving(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Return a method that computes on a device whatever it is given on the CPU."""

    @functools.wraps(function)
    def moved(self: Loss, *given: Any, **named: Any) -> Any:
        if not any(tensor.device.type == "cpu" for tensor in tree_leaves((given, named)) if isinstance(tensor, Tensor)):
            return function(self, *given, **named)
        given, named = tree_map_only(Tensor, lambda tensor: tensor.to(device), (given, named))
        if getattr(self, "remembers", False) or is_compiling():
            try:
                return back(function(self.to(device), *given, **named))
            finally:
                self.to("cpu")
        if not has_tensors(self):
            return back(function(self, *given, **named))
        there = copy.deepcopy(self).to(device)  # where it stays until the gradient is asked for
        result = function(there, *given, **named)
        for own, other in zip(self.modules(), there.modules(), strict=True):
            if isinstance(own, Loss) and isinstance(other, Loss):  # the first batch was looked at
                own._inspected = other._inspected
        return back(result)

    return moved


def has_tensors(loss: Loss) -> bool:
    return next(loss.buffers(), None) is not None or next(loss.parameters(), None) is not None


def back(result: Any) -> Any:
    """Return a result on the CPU."""
    return tree_map_only(Tensor, lambda tensor: tensor.to("cpu"), result)


def on(device: str, part: Any) -> Any:
    """Return a part of a batch on a device, ready to be differentiated where it was."""

    def there(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device).requires_grad_(tensor.requires_grad)

    return tree_map_only(Tensor, there, part)
