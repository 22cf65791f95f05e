"""How things are measured: on one thread, in turns with the peer, as the median of many ratios."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """What one call costs, in microseconds, and the median ratio of the two over interleaved rounds."""

    ours: float
    peer: float
    ratio: float


def compare(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = 31, calls: int = 2000) -> Ratio:
    """Time two functions in turns."""
    for warm_up in (ours, peer):
        seconds(warm_up, calls)
    pairs = [(seconds(ours, calls), seconds(peer, calls)) for _ in range(rounds)]
    return Ratio(
        statistics.median(mine for mine, _ in pairs) * 1e6,
        statistics.median(its for _, its in pairs) * 1e6,
        statistics.median(mine / its for mine, its in pairs),
    )


def seconds(function: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def machine() -> dict[str, str]:
    """Return what a measurement depends on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }
