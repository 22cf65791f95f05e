"""What was found, as tables of at most 140 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.harness.comparison.case import QUICK
from benchmarks.harness.comparison.row import Row, Settings
from benchmarks.harness.environment import summary
from benchmarks.harness.memory import MEBIBYTE
from benchmarks.harness.tables import empty_table, fraction, limit, short, verdict
from benchmarks.harness.timing import Quartiles


def table(what: str, heading: str, rows: Sequence[Row], settings: Settings) -> Table:
    """Return the rows as a table; what the numbers of a shape are is its heading."""
    sizes = f", sizes divided by {QUICK} and more" if settings.quick else ""
    products = any(row.ours_over_products for row in rows)
    shown = empty_table(
        f"{what}, forward and backward{sizes}; {summary(settings.device)}",
        *("case", heading, "peer"),
        *("ours\nms", "peer\nms", "times\n(quartiles)", "reach", "time"),
        *("ours\nMiB", "peer\nMiB", "ours/\npeer", "reach", "memory"),
        *(["of\nmm"] if products else []),
        text=3,
    )
    for row in rows:
        shown.add_row(*cells(row, heading)[: len(shown.columns)])
    return shown


def compiled_table(rows: Iterable[Row]) -> Table:
    """Return how ours, as it is and compiled, stands beside the plain formula when that is compiled."""
    shown = empty_table(
        "torch.compile of the plain formula (times, quartiles)",
        *("case", "peer", "formula compiled, ms", "ours compiled, ms"),
        *("compiled formula / ours", "compiled formula / ours compiled", "the same of a module"),
        text=2,
    )
    for row in rows:
        if row.compiled_peer_over_ours is not None:
            times = (short(row.milliseconds.get(f"compiled {side}")) for side in ("peer", "ours"))
            ratios = (row.compiled_peer_over_ours, row.compiled_peer_over_compiled_ours)
            ratios += (row.compiled_module_over_compiled_ours,)
            shown.add_row(row.name, row.peer, *times, *map(middle, ratios))
    return shown


def middle(times: Quartiles | None) -> str:
    """Return a median with its quartiles as text."""
    return f"{short(times.median)} ({short(times.lower)}-{short(times.upper)})" if times else ""


CAPTION = """\
times: peer / ours, so that more than 1 is faster; ours / peer where the reach is <=; median of interleaved pairs. MiB:
peak of a step, beyond imports and the batch. Every case is timed in a process of its own."""

OF_PRODUCTS = """\
of mm: ours / the bare matrix products of the loss, in the same turns; below 1 where each pair is looked at once, which
halves them. "N / 2" is ours at half the size."""


def cells(row: Row, heading: str) -> list[str]:
    """Return a row of the table."""
    times = row.ours_over_peer if row.limits["slower"] is not None else row.peer_over_ours
    named = [row.name, shape_text(row.shape, heading), row.peer or ""]
    if row.error is not None:
        return [*named, *[""] * 4, "error", *[""] * 4, "error", ""]
    not_run = f"not run: {row.notes['peer'].replace('about ', '~')}" if "peer" in row.notes else ""
    return [
        *named,
        *(short(row.milliseconds.get(side)) for side in ("ours", "peer")),
        middle(times) or not_run,
        reach_of_time(row),
        verdict(row.time_kept),
        *(short(row.memory[side] / MEBIBYTE) if side in row.memory else "" for side in ("ours", "peer")),
        fraction(row.memory["ours"] / row.memory["peer"]) if row.memory.get("peer") and "ours" in row.memory else "",
        reach_of_memory(row),
        verdict(row.memory_kept),
        short(row.ours_over_products.median) if row.ours_over_products else "",
    ]


def reach_of_time(row: Row) -> str:
    """Return what the time has to reach, where that is judged."""
    return (limit(row.limits["faster"], ">=") or limit(row.limits["slower"], "<=")) if row.judged else ""


def reach_of_memory(row: Row) -> str:
    """Return what the memory has to reach, likewise."""
    if not row.judged:
        return ""
    lighter = row.limits["lighter"]
    return limit(row.limits["megabytes"], "<=", " MB") or (f"<={fraction(lighter)}" if lighter else "")


def shape_text(shape: Sequence[int], heading: str) -> str:
    """Return a shape as its heading is written: ``4096/4`` under ``N/class``, ``4096x1000`` under ``NxC``."""
    return ("/" if "/" in heading else "x").join(map(str, shape))


def scaling_table(found: Mapping[str, dict[str, Any]]) -> Table:
    """Return exponents and the times they come from as a table."""
    sizes = sorted({size for series in found.values() for size in (*series["seconds"], *series["not_run"])})
    shown = empty_table(
        "ours: time grows with N to the power of", "loss", "exponent", *(f"N={size}, ms" for size in sizes)
    )
    for name, series in found.items():
        power = "" if series["exponent"] is None else f"{series['exponent']:.2f}"
        times = (short(1000 * series["seconds"][size]) if size in series["seconds"] else "not run" for size in sizes)
        shown.add_row(name, power, *times)
    return shown
