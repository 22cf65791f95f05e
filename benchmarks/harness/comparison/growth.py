"""How time grows with the batch."""

from __future__ import annotations

import statistics
from collections.abc import Container, Mapping
from typing import Any

from benchmarks.harness import memory
from benchmarks.harness.comparison.case import Case
from benchmarks.harness.comparison.row import Settings
from benchmarks.harness.equality import step
from benchmarks.harness.memory import TooLargeError
from benchmarks.harness.timing import exponent, in_own_process, timed

SIZES = (512, 1024, 2048, 4096, 8192)


def scaling(series: Mapping[str, Case], settings: Settings, unequal: Container[str] = ()) -> dict[str, dict[str, Any]]:
    """Return for each series the time at every size and the exponent with which it grows; nothing for losses that were
    unequal."""
    found = {}
    for name, case in series.items():
        if case.loss in unequal:
            found[name] = {"exponent": None, "seconds": {}, "not_run": {}}
        else:
            found[name] = in_own_process(growth, case, settings) if settings.fresh else growth(case, settings)
    return found


def growth(case: Case, settings: Settings) -> dict[str, Any]:
    """Return the time of one series at every size, and its exponent."""
    most = memory.allowed(settings.device)
    times: dict[int, float] = {}
    notes: dict[int, str] = {}
    for full in SIZES:
        shape = case.shaped(full, quick=settings.quick)
        size = shape[0]
        batch = case.batch(*shape, settings.device)
        function = step(case.ours(settings.device), batch.leaves, *batch.constants)
        try:
            with memory.limited(most, settings.device):
                rounds = timed(
                    {"ours": function}, budget=settings.seconds / 5, device=settings.device, quick=settings.quick
                )
        except TooLargeError as error:
            notes[size] = str(error)
            continue
        times[size] = statistics.median(rounds["ours"])
    slope = exponent(list(times), list(times.values())) if len(times) > 1 else None
    return {"exponent": slope, "seconds": times, "not_run": notes}
