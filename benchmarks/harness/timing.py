"""How long things take: in turns with the peer, as the median of many ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

import torch

Function = Callable[[], object]
Result = TypeVar("Result")

LEAST_ROUNDS, CHEAP_ROUNDS, MOST_ROUNDS = 3, 5, 31
SLOT = 0.02  # seconds that one measurement lasts at least: a short function is called often enough to fill it


class Ratio(NamedTuple):
    """What one call costs, in microseconds, and the median ratio of the two over interleaved rounds."""

    ours: float
    peer: float
    ratio: float


class Quartiles(NamedTuple):
    """The median of several measurements and the quartiles around it."""

    median: float
    lower: float
    upper: float


def compare(ours: Function, peer: Function, *, rounds: int = 31, calls: int = 2000) -> Ratio:
    """Time two functions in turns, each round of a fixed number of calls."""
    functions = {"ours": ours, "peer": peer}
    for warm_up in functions.values():
        seconds(warm_up, calls)
    times = in_turns(functions, dict.fromkeys(functions, calls), rounds)
    return Ratio(
        statistics.median(times["ours"]) * 1e6,
        statistics.median(times["peer"]) * 1e6,
        ratio(times["ours"], times["peer"]).median,
    )


def timed(
    functions: Mapping[str, Function],
    *,
    budget: float,
    device: str = "cpu",
    least: int = LEAST_ROUNDS,
    quick: bool = False,
) -> dict[str, list[float]]:
    """Time functions in turns for about ``budget`` seconds and return the seconds per call of every round.

    A peer may take a thousand times as long as we do, so the number of calls in a round is chosen for each function,
    and the number of rounds from what a round costs: never fewer than ``least``, and five where that is cheap. A quick
    look is one call in each of ``least`` rounds: that it runs, not how long it takes.
    """
    if quick:
        return in_turns(functions, dict.fromkeys(functions, 1), least, device)
    calls = {}
    cost = 0.0
    for name, function in functions.items():
        first = seconds(function, 1, device)  # also the warm-up; only where it is short is it worth another look
        typical = first if first > 1 else min(first, seconds(function, 1, device))
        calls[name] = max(1, math.ceil(SLOT / max(typical, 1e-9)))
        cost += calls[name] * typical
    rounds = min(MOST_ROUNDS, int(budget / cost))
    if CHEAP_ROUNDS * cost <= 2 * budget:
        rounds = max(CHEAP_ROUNDS, rounds)
    return in_turns(functions, calls, max(least, min(rounds, MOST_ROUNDS)), device)


def in_turns(
    functions: Mapping[str, Function], calls: Mapping[str, int], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Return the seconds per call of each function in every round; a disturbance of the machine then hits all of them
    alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function, calls[name], device))
    return times


def seconds(function: Function, calls: int, device: str = "cpu") -> float:
    """Return the mean time of a call; on a GPU between two events, since a call there only asks for work."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - begin) / calls


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Quartiles:
    """Return the ratio of measurements that were taken as pairs."""
    return quartiles([one / other for one, other in zip(numerators, denominators, strict=True)])


def quartiles(numbers: Sequence[float]) -> Quartiles:
    """Return median and quartiles."""
    if len(numbers) == 1:
        return Quartiles(numbers[0], numbers[0], numbers[0])
    lower, median, upper = statistics.quantiles(numbers, n=4, method="inclusive")
    return Quartiles(median, lower, upper)


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the power of the size that the time grows with: the slope of the least-squares line through the
    logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(time) for time in times]).slope


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what a function returns in a process of its own, on one thread.

    There, memory that earlier cases left to the allocator neither helps nor hinders: a large block that was handed back
    to the system has to be filled in anew, page by page, and that can take longer than what is done in it.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        return processes.submit(function, *arguments).result()
