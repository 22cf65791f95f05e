"""A family of cases as a benchmark: what can be chosen on the command line, and the run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.harness.comparison.case import Case
from benchmarks.harness.comparison.growth import scaling
from benchmarks.harness.comparison.measure import measured
from benchmarks.harness.comparison.row import Row, Settings
from benchmarks.harness.comparison.tables import CAPTION, OF_PRODUCTS, compiled_table, scaling_table, table


class Family:
    """A module of ``benchmarks/cases/`` as a benchmark.

    The module has a docstring, ``CASES``, ``WHAT`` they have in common and ``SHAPE``, what the numbers of their shapes
    are; and ``SERIES`` if it holds losses whose growth with the batch is measured.
    """

    def __init__(self, cases: ModuleType) -> None:
        self.module = cases
        self.__doc__ = cases.__doc__

    @property
    def name(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    @property
    def cases(self) -> Sequence[Case]:
        return self.module.CASES

    @property
    def series(self) -> Mapping[str, Case]:
        return getattr(self.module, "SERIES", {})

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add what can be chosen on the command line."""
        names = [case.name for case in self.cases]
        parser.add_argument(
            "--case",
            nargs="+",
            choices=names,
            metavar="NAME",
            help=f"run only these, without exponents: {', '.join(names)}",
        )
        settings_options(parser)

    def report(self, arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
        """Run, print, and return every number and whether all went well."""
        settings, only = settings_of(arguments), getattr(arguments, "case", None)
        chosen = [case for case in self.cases if not only or case.name in only]
        rows = [measured(case, settings) for case in track(chosen, console=Console(stderr=True), transient=True)]
        show(f"{self.name}: {self.module.WHAT}", self.module.SHAPE, rows, settings, console)
        unequal = {case.loss for case, row in zip(chosen, rows, strict=True) if row.error is not None}
        found = {} if only else scaling(self.series, settings, unequal)
        if found:
            console.print(scaling_table(found))
        numbers = {
            "what": self.module.WHAT,
            "shape": self.module.SHAPE,
            "rows": [row.record() for row in rows],
            "scaling": found,
        }
        return numbers, all(row.error is None for row in rows)


def settings_options(parser: argparse.ArgumentParser) -> None:
    """Add how a run measures."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help="batches a sixteenth of the size or less, few rounds: does everything run and agree?",
    )
    parser.add_argument(
        "--seconds", type=float, default=Settings.seconds, help="time for each case, about (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="time ours and plain formulas under torch.compile too, which takes seconds for each to compile",
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return how a run measures, as the command line says."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: this torch sees no GPU")
    fresh = not arguments.quick and arguments.device == "cpu"
    return Settings(arguments.seconds, arguments.quick, arguments.device, fresh, arguments.compile)


def show(what: str, heading: str, rows: Sequence[Row], settings: Settings, console: Console) -> None:
    """Print the rows, what was not run, and what went wrong."""
    console.print(table(what, heading, rows, settings))
    console.print(CAPTION, highlight=False)
    if any(row.ours_over_products for row in rows):
        console.print(OF_PRODUCTS, highlight=False)
    if any(row.compiled_peer_over_ours for row in rows):
        console.print(compiled_table(rows))
    for row in rows:
        for side, note in row.notes.items():
            who = "ours" if side == "ours" else row.peer
            console.print(f"{row.name}: {who} was not run: {note}", highlight=False, markup=False)
        if row.error is not None:
            console.print(f"ERROR {row.name}: {row.error}", highlight=False, markup=False)
