"""The command of a family of cases: what can be chosen, and the run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.harness.comparison.case import Case
from benchmarks.harness.comparison.growth import scaling
from benchmarks.harness.comparison.measure import measured
from benchmarks.harness.comparison.row import Settings
from benchmarks.harness.comparison.tables import CAPTION, scaling_table, table


def options(parser: argparse.ArgumentParser, cases: Sequence[Case]) -> None:
    """Add what can be chosen on the command line."""
    names = [case.name for case in cases]
    parser.add_argument(
        "--case",
        nargs="+",
        choices=names,
        metavar="NAME",
        help=f"run only these, without the exponents: {', '.join(names)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="batches a sixteenth of the size, few rounds: does everything run and agree?",
    )
    parser.add_argument(
        "--seconds", type=float, default=Settings.seconds, help="time for each case, about (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def report(
    what: str, cases: Sequence[Case], series: Mapping[str, Case], arguments: argparse.Namespace, console: Console
) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all went well.

    Args:
        what: the cases have in common, for the title.
        cases: of which the command line may choose some.
        series: losses whose growth with the batch is measured if it chooses none.
        arguments: the command line.
        console: where the tables go.
    """
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: this torch sees no GPU")
    settings = Settings(arguments.seconds, arguments.quick, arguments.device, fresh=not arguments.quick)
    chosen = [case for case in cases if not arguments.case or case.name in arguments.case]
    rows = [measured(case, settings) for case in track(chosen, console=Console(stderr=True), transient=True)]
    console.print(table(what, rows, settings))
    console.print(CAPTION, highlight=False)
    for row in rows:
        for side, note in row.notes.items():
            console.print(
                f"{row.name}: {'ours' if side == 'ours' else row.peer} was not run: {note}",
                highlight=False,
                markup=False,
            )
        if row.error is not None:
            console.print(f"ERROR {row.name}: {row.error}", highlight=False, markup=False)
    unequal = {case.loss for case, row in zip(chosen, rows, strict=True) if row.error is not None}
    found = {} if arguments.case else scaling(series, settings, unequal)
    if found:
        console.print(scaling_table(found))
    return {"rows": [row.record() for row in rows], "scaling": found}, all(row.error is None for row in rows)
