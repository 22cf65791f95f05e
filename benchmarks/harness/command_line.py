"""``python -m benchmarks [family]``: run a benchmark, or all families; print tables and, with ``--json``, write the
numbers."""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from benchmarks.harness.comparison.command import settings_options
from benchmarks.harness.environment import environment, fingerprint

WIDTH = 140
RESULTS = Path(__file__).parents[1] / "results"
ALL = "all"


class Benchmark(Protocol):
    """A module, or what stands for one, that measures something. Its docstring says what."""

    __doc__: str | None

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add what can be chosen on the command line."""

    def report(self, arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
        """Run, print, and return every number and whether all went well."""


def run(benchmarks: Mapping[str, Benchmark], arguments: Sequence[str], *, families: Collection[str] = ()) -> int:
    """Return the exit status: 0 where everything that was measured was also equal, and of one version.

    Args:
        benchmarks: what can be asked for by name.
        arguments: of the command line.
        families: names of those that are run when none is asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    added(commands, ALL, f"every family that compares, as without a name: {', '.join(families)}", settings_options)
    for name, benchmark in benchmarks.items():
        added(commands, name, benchmark.__doc__ or "", benchmark.options)
    unnamed = not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"))
    chosen = parser.parse_args([ALL, *arguments] if unnamed else arguments)
    if chosen.benchmark == ALL and chosen.json and not chosen.json.is_dir():
        parser.error(f"--json {chosen.json}: every family has a file of its own; give a folder that exists")
    torch.set_num_threads(1)
    gc.freeze()  # what is imported stays, and need not be gone through before every look at memory
    names = list(families) if chosen.benchmark == ALL else [chosen.benchmark]
    outcomes = [reported(name, benchmarks[name], chosen) for name in names]
    return 0 if all(outcomes) else 1


def added(commands: Any, name: str, text: str, options: Any) -> None:
    """Add a command with its options."""
    command = commands.add_parser(name, help=text.partition("\n")[0], description=text)
    command.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="PATH",
        help="write the numbers to a file, or to one for each family in a folder (without a path: benchmarks/results/)",
    )
    options(command)


def reported(name: str, benchmark: Benchmark, chosen: argparse.Namespace) -> bool:
    """Run one benchmark, write its numbers where that is asked for, and return whether all went well."""
    sources = fingerprint()
    numbers, well = benchmark.report(chosen, Console(width=WIDTH))
    if fingerprint() != sources:
        print("ERROR losses/ changed during the run: its rows may be of two versions")
        well = False
    if chosen.json:
        device = getattr(chosen, "device", "cpu")
        own = chosen.json / f"{name}.json" if device == "cpu" else chosen.json / f"{name}-{device}.json"
        file = own if chosen.json.is_dir() else chosen.json
        text = json.dumps({"benchmark": name, **environment(device), "sources": sources, **numbers}, indent=2)
        file.write_text(text, encoding="utf-8")
    return well


def at_least_one(text: str) -> int:
    """Return a count from the command line."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {count}, expected at least 1")
    return count
