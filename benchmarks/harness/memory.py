"""How much memory a step needs: the peak of a fresh process beyond what it held when the batch was ready.

``python -m benchmarks.harness.memory LIMIT`` reads a pickled function and its arguments, calls it for a step already
warmed up, runs the step once and prints the peak. Every side is measured so: same allocator settings, one thread, a
process of its own.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

Step = Callable[[], object]

ROOT = Path(__file__).parents[2]
MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
MOST = 8 * GIBIBYTE  # a step that needs more is not run
# glibc raises its thresholds as a program runs, and then keeps what is freed; at fixed ones the peak is what was in use
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17), "MALLOC_TRIM_THRESHOLD_": str(1 << 17), "MALLOC_ARENA_MAX": "1"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class TooLargeError(Exception):
    """A step would need more memory than is safe; nothing was measured."""


class Peak(NamedTuple):
    """Extra bytes at the peak, and how they were found."""

    extra: int
    method: str


def allowed(device: str = "cpu") -> int:
    """Return how many bytes a step may take, so that a shared machine never swaps."""
    if device == "cuda":
        return int(0.8 * torch.cuda.mem_get_info()[0])
    return min(MOST, int(0.6 * available()))


def available() -> int:
    """Return the free memory of the machine in bytes."""
    information = Path("/proc/meminfo")
    if information.exists():
        return fields(information)["MemAvailable"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def fields(path: Path) -> dict[str, int]:
    """Return the sizes that a file of /proc lists, in bytes."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(kibibytes) * 1024 for name, kibibytes, _ in lines}


@contextmanager
def limited(extra: int, device: str = "cpu") -> Iterator[None]:
    """Let the process grow by so many bytes at most; beyond, allocating raises :class:`TooLargeError` instead of
    swapping.

    On a GPU the driver reserves addresses beyond measure, so there only its own refusal counts.
    """
    status = Path("/proc/self/status")
    before = resource.getrlimit(resource.RLIMIT_AS)
    if status.exists() and device == "cpu":
        resource.setrlimit(resource.RLIMIT_AS, (fields(status)["VmSize"] + extra, before[1]))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch says the one on a GPU, the other on a CPU
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise TooLargeError(f"more than {extra / GIBIBYTE:.1f} GiB") from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def here(function: Step, device: str = "cpu") -> Peak:
    """Return the peak of a step in this process, beyond what the process holds now.

    Code pages of libraries that the step touches for the first time are resident too; they are no memory of the loss
    and are taken off.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return Peak(torch.cuda.max_memory_allocated() - start, "torch.cuda.max_memory_allocated")
    if not reset():
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function()
        return Peak((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * unit, "difference of ru_maxrss")
    status = Path("/proc/self/status")
    before = fields(status)
    kept = function()  # held until the peak is read, as a training loop would
    after = fields(status)
    del kept
    code = max(0, after["RssFile"] - before["RssFile"])
    return Peak(max(0, after["VmHWM"] - before["VmRSS"] - code), "VmHWM, reset before the step")


def reset() -> bool:
    """Give freed memory back and lower the high-water mark to what is resident; return whether the system permits
    it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (AttributeError, OSError):
        return False
    return True


def fresh(function: Callable[..., Step], *arguments: Any, limit: int = MOST, timeout: float = 900) -> Peak:
    """Return the peak of the step that ``function(*arguments)`` makes, in a process of its own."""
    outcome = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness.memory", str(limit)],
        input=pickle.dumps((function, arguments)),
        cwd=ROOT,
        env={**os.environ, **ALLOCATOR, **ONE_THREAD},
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if outcome.returncode:
        said = outcome.stderr.decode(errors="replace").strip()[-500:]
        raise RuntimeError(f"{function.__name__}{arguments} ended with {outcome.returncode}: {said}")
    answer = json.loads(outcome.stdout.splitlines()[-1])
    if "too_large" in answer:
        raise TooLargeError(answer["too_large"])
    return Peak(**answer)


def filled(mebibytes: int) -> Step:
    """Return a step that needs a known amount of memory: what the probe itself is tested with."""
    return lambda: torch.ones(mebibytes, MEBIBYTE // 4)


def main() -> None:
    torch.set_num_threads(1)
    function, arguments = pickle.load(sys.stdin.buffer)
    step = function(*arguments)
    try:
        with limited(int(sys.argv[1])):
            answer: dict[str, object] = here(step)._asdict()
    except TooLargeError as error:
        answer = {"too_large": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
