"""How things are measured: on one thread, in turns with the peer, as the median of many ratios; and only what is
equal."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

import losses

Function = Callable[[], object]
Result = TypeVar("Result")

LEAST_ROUNDS, CHEAP_ROUNDS, MOST_ROUNDS = 3, 5, 31
SLOT = 0.02  # seconds that one measurement lasts at least: a short function is called often enough to fill it


class UnequalError(Exception):
    """Two things that should be the same are not, so nothing about them may be timed."""


class Ratio(NamedTuple):
    """What one call costs, in microseconds, and the median ratio of the two over interleaved rounds."""

    ours: float
    peer: float
    ratio: float


class Spread(NamedTuple):
    """The median of several measurements and the quartiles around it."""

    median: float
    lower: float
    upper: float


class Outcome(NamedTuple):
    """The value of a step and the gradient of everything it was taken of, in one column."""

    value: Tensor
    gradient: Tensor


class Difference(NamedTuple):
    """How far an outcome is from the expected one, relative to the value and to the largest entry of the gradient."""

    value: float
    gradient: float


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
    functions: Mapping[str, Function], *, budget: float, device: str = "cpu", least: int = LEAST_ROUNDS
) -> dict[str, list[float]]:
    """Time functions in turns for about ``budget`` seconds and return the seconds per call of every round.

    A peer may take a thousand times as long as we do, so the number of calls in a round is chosen for each function,
    and the number of rounds from what a round costs: never fewer than ``least``, and five where that is cheap.
    """
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


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the ratio of measurements that were taken as pairs."""
    return spread([one / other for one, other in zip(numerators, denominators, strict=True)])


def spread(numbers: Sequence[float]) -> Spread:
    """Return median and quartiles."""
    if len(numbers) == 1:
        return Spread(numbers[0], numbers[0], numbers[0])
    lower, median, upper = statistics.quantiles(numbers, n=4, method="inclusive")
    return Spread(median, lower, upper)


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the power of the size that the time grows with: the slope of the least-squares line through the
    logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(time) for time in times]).slope


def step(value: Callable[..., Tensor], leaves: Sequence[Tensor], *constants: object) -> Callable[[], Outcome]:
    """Return a function that runs ``value`` forward and backward on tensors whose gradient is wanted."""
    seed: Tensor | None = None

    def forward_backward() -> Outcome:
        nonlocal seed
        for leaf in leaves:
            leaf.grad = None
        result = value(*leaves, *constants)
        if seed is None:
            seed = torch.ones_like(result)  # made once: it is no part of the work of a peer that returns a matrix
        result.backward(seed)
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        if len(gradients) < len(leaves):
            raise UnequalError(f"only {len(gradients)} of {len(leaves)} tensors have a gradient")
        return Outcome(result.detach(), gradients[0] if len(gradients) == 1 else torch.cat(gradients))

    return forward_backward


def difference(outcome: Outcome, expected: Outcome) -> Difference:
    """Return how far an outcome is from the expected one; NaN and infinity are as far as can be."""
    value, gradient = (
        float((one.double() - other.double()).abs().max() / other.double().abs().max())
        for one, other in zip(outcome, expected, strict=True)
    )
    return Difference(*(part if math.isfinite(part) else math.inf for part in (value, gradient)))


def require_equal(name: str, outcome: Outcome, expected: Outcome, tolerance: Difference) -> Difference:
    """Return how far an outcome is from the expected one, or raise where that is more than the tolerance."""
    if outcome.value.shape != expected.value.shape or outcome.gradient.shape != expected.gradient.shape:
        raise UnequalError(
            f"{name}: shapes {[tuple(part.shape) for part in outcome]} and {[tuple(part.shape) for part in expected]}"
        )
    if not expected.gradient.any():
        raise UnequalError(f"{name}: the expected gradient is 0, so that equality would say nothing")
    found = difference(outcome, expected)
    for part, allowed in tolerance._asdict().items():
        if not getattr(found, part) <= allowed:
            raise UnequalError(
                f"{name}: the {part} is {getattr(found, part):.1e} away, allowed is {allowed:.0e} (values "
                f"{outcome.value:.7g}, "
                f"{expected.value:.7g})"
            )
    return found


def environment(device: str = "cpu") -> dict[str, object]:
    """Return what a measurement depends on; nothing here tells whose machine it is."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("pytorch-metric-learning", "numpy")},
        },
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "architecture": platform.machine()},
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }


def fingerprint() -> str:
    """Return what tells one state of our sources from another.

    Fresh processes load what is on the disk by then, so a run during which the sources change measures two packages in
    one.
    """
    root = Path(losses.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the model name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def summary(device: str = "cpu") -> str:
    """Return the environment in one line."""
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if device == "cuda" else f"{processor()} ({platform.machine()})"
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"torch {torch.__version__}, Python {platform.python_version()}, {where}, {count}"


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what a function returns in a process of its own, on one thread.

    There, memory that earlier cases left to the allocator neither helps nor hinders: a large block that was handed back
    to the system has to be filled in anew, page by page, and that can take longer than what is done in it.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        return processes.submit(function, *arguments).result()
