"""Code of its own for every loss: torch.compile remembers what it compiled by code object, not by module."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from losses.core.torch_private import forget_compiled


class OwnCode:
    """A copy of a function that shares no code object with it.

    What torch.compile makes of a function it keeps with the function's code object, and it gives up on one that it has
    compiled eight times. A method that all losses share would be compiled for eight losses and no more; one that each
    has of its own is compiled for any number of them, and what was compiled goes when the loss goes.
    """

    __slots__ = ("call",)

    def __init__(self, function: Callable[..., Any]) -> None:
        shared = cast(FunctionType, function)
        self.call = FunctionType(
            shared.__code__.replace(), shared.__globals__, shared.__name__, shared.__defaults__, shared.__closure__
        )
        self.call.__kwdefaults__ = shared.__kwdefaults__

    def __del__(self) -> None:
        forget_compiled(self.call)
