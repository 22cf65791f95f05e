"""What was found, as tables of at most 140 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from benchmarks.harness.comparison.case import QUICK
from benchmarks.harness.comparison.row import Row, Settings
from benchmarks.harness.environment import summary
from benchmarks.harness.memory import MEBIBYTE
from benchmarks.harness.tables import empty_table, fraction, limit, short, verdict


def table(what: str, rows: Iterable[Row], settings: Settings) -> Table:
    """Return the rows as a table."""
    sizes = f", sizes divided by {QUICK}" if settings.quick else ""
    shown = empty_table(
        f"{what}, forward and backward{sizes}; {summary(settings.device)}",
        *("case", "N/class", "peer"),
        *("ours\nms", "peer\nms", "times\n(quartiles)", "limit", "time"),
        *("ours\nMiB", "peer\nMiB", "ours/\npeer", "limit", "memory", "of\nmm"),
        text=3,
    )
    for row in rows:
        shown.add_row(*cells(row))
    return shown


CAPTION = """\
times: peer / ours, ours / peer where the limit is <=; median of interleaved pairs. MiB: peak of a step, beyond imports
and the batch. of mm: ours / the bare matrix products of the loss, in the same turns; below 1 where each pair is
looked at once, which halves them. "N / 2" is ours at half the size. Every case is timed in a process of its own."""


def cells(row: Row) -> list[str]:
    """Return a row of the table."""
    times = row.ours_over_peer if row.limits["slower"] is not None else row.peer_over_ours
    shape = [row.name, f"{row.size}/{row.per_class}", row.peer or ""]
    if row.error is not None:
        return [*shape, *[""] * 4, "error", *[""] * 4, "error", ""]
    if times is not None:
        middle = f"{short(times.median)} ({short(times.lower)}-{short(times.upper)})"
    else:
        middle = f"not run: {row.notes['peer'].replace('about ', '~')}" if "peer" in row.notes else ""
    return [
        *shape,
        *(short(row.milliseconds.get(side)) for side in ("ours", "peer")),
        middle,
        limit(row.limits["faster"], ">=") or limit(row.limits["slower"], "<="),
        verdict(row.time_kept),
        *(short(row.memory[side] / MEBIBYTE) if side in row.memory else "" for side in ("ours", "peer")),
        fraction(row.memory["ours"] / max(1, row.memory["peer"])) if len(row.memory) == 2 else "",
        limit(row.limits["megabytes"], "<=", " MB")
        or (f"<={fraction(row.limits['lighter'])}" if row.limits["lighter"] else ""),
        verdict(row.memory_kept),
        short(row.ours_over_products.median) if row.ours_over_products else "",
    ]


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
