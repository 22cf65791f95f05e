"""How many operations something takes forward and backward: what a small batch costs, and a GPU pays for each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def operations(function: Callable[[], Tensor]) -> int:
    """Return how many operations a value and its gradient call, those within operations not counted."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function().backward()
    return sum(event.name.startswith("aten::") and not within_another(event) for event in profile.events() or [])


def within_another(event: Any) -> bool:
    """Return whether an operation was called by another one."""
    while (event := event.cpu_parent) is not None:
        if event.name.startswith("aten::"):
            return True
    return False
