"""``python -m benchmarks metric``: run a benchmark, print its table and, with ``--json FILE``, write the numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console

from benchmarks.harness.environment import environment, fingerprint

WIDTH = 140


def run(benchmarks: Mapping[str, ModuleType], arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 where everything that was measured was also equal, and of one version.

    Args:
        benchmarks: modules with a docstring, ``options(parser)`` and ``report(arguments, console)``.
        arguments: of the command line; ``None`` takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in benchmarks.items():
        summary = (benchmark.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=benchmark.__doc__)
        command.add_argument("--json", type=Path, help="file to write the numbers to")
        benchmark.options(command)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sources = fingerprint()
    numbers, well = benchmarks[chosen.benchmark].report(chosen, Console(width=WIDTH))
    if fingerprint() != sources:
        print("ERROR losses/ changed during the run: its rows may be of two versions")
        well = False
    if chosen.json:
        conditions = environment(getattr(chosen, "device", "cpu"))
        chosen.json.write_text(
            json.dumps({"benchmark": chosen.benchmark, **conditions, "sources": sources, **numbers}, indent=2),
            encoding="utf-8",
        )
    return 0 if well else 1


def at_least_one(text: str) -> int:
    """Return a count from the command line."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {count}, expected at least 1")
    return count
