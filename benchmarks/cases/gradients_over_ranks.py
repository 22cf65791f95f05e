"""The gradient averaged over 1, 2, 3 and 4 processes against that of one with the whole batch, for every loss.

In float64, of every registered loss with each kind of input and of every loss of pytorch-metric-learning: with
``GlobalBatch``, for batches of equal sizes, of different sizes and with a rank that has none; with the loss alone on
each rank; with ``DistributedLossWrapper`` of pytorch-metric-learning; and with rows gathered as lightly does, of which
every rank computes the whole loss, or the mean over its own anchors.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.environment import summary
from benchmarks.harness.ranks.gradients import NOT_A_NUMBER, SPLITS, WAYS, work
from benchmarks.harness.ranks.processes import answers_of
from benchmarks.harness.ranks.subjects import OF_OTHERS, ROWS, Subject, subjects
from benchmarks.harness.ranks.uneven import ends
from benchmarks.harness.tables import empty_table, verdict

EQUAL = 1e-10
QUICK = ("mse", "triplet, swap=True", "info_nce", "memory_bank", "pml.ArcFaceLoss")
COLUMNS = (
    *(("GlobalBatch", "even"), ("GlobalBatch", "uneven"), ("GlobalBatch", "empty")),
    *(("alone", "even"), ("alone", "uneven")),
    *(("PML", "even"), ("gathered", "even"), ("own anchors", "even")),
)
"""Of the table: side, and split of the batch."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--quick", action="store_true", help="2 processes, a few losses: does it run and agree?")


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all gradients were those of one process."""
    chosen = [subject for subject in subjects() if not arguments.quick or str(subject) in QUICK]
    found = {ranks: answers_of(ranks, work, chosen) for ranks in ((2,) if arguments.quick else SPLITS)}
    rows = [row(subject, found) for subject in chosen]
    console.print(table(rows))
    worst = max(one["largest"]["GlobalBatch"][split] for one in rows for split in one["largest"]["GlobalBatch"])
    others = sum(one["loss"].startswith(OF_OTHERS) for one in rows)
    console.print(
        f"GlobalBatch, {len(rows) - others} rows of ours and {others} losses of pytorch-metric-learning: largest "
        f"difference {worst:.0e}, all <= {EQUAL:.0e}: {verdict(worst <= EQUAL)}"
    )
    numbers = {"samples": ROWS, "ways": WAYS, "rows": rows, "uneven": {} if arguments.quick else ends()}
    return numbers, worst <= EQUAL


def row(subject: Subject, found: dict[int, dict[Any, Any]]) -> dict[str, Any]:
    """Return what was found for one loss, as it is written down: of each side and split, the largest over ranks."""
    by_ranks = {ranks: answers[str(subject), subject.kind] for ranks, answers in found.items()}
    most: dict[str, dict[str, float | None]] = {}
    for ranks, sides in by_ranks.items():
        for side, splits in sides.items():
            for split, difference in splits.items():
                if ranks > 1 or side == "GlobalBatch":
                    known = most.setdefault(side, {}).setdefault(split, difference)
                    most[side][split] = None if None in (known, difference) else max(known or 0.0, difference)
    return {"loss": str(subject), "input": subject.kind, "largest": most, "by_ranks": by_ranks}


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the table, a line for each loss and kind of input."""
    shown = empty_table(
        f"gradients_over_ranks: largest difference from one process, over its largest entry; float64; {summary()}",
        *("loss", "input"),
        *("GlobalBatch", "uneven", "empty", "alone", "uneven", "PML", "gathered", "anchors"),
        text=2,
    )
    for one in rows:
        shown.add_row(one["loss"], one["input"].lower(), *(cell(one, side, split) for side, split in COLUMNS))
    return shown


def cell(one: dict[str, Any], side: str, split: str) -> str:
    """Return a difference as text, nothing where the loss is not called this way."""
    difference = one["largest"].get(side, {}).get(split)
    return "" if difference is None else "NaN" if difference == NOT_A_NUMBER else f"{difference:.0e}"
