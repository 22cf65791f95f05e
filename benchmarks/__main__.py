"""``python -m benchmarks metric``: run a benchmark, print its table and, with ``--json FILE``, write the numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import metric, overhead, training
from benchmarks.measure import environment, fingerprint

BENCHMARKS = {"overhead": overhead, "metric": metric, "training": training}
WIDTH = 140


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 where everything that was measured was also equal, and of one version."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in BENCHMARKS.items():
        summary = (benchmark.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=benchmark.__doc__)
        command.add_argument("--json", type=Path, help="file to write the numbers to")
        benchmark.options(command)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sources = fingerprint()
    numbers, well = BENCHMARKS[chosen.benchmark].report(chosen, Console(width=WIDTH))
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


if __name__ == "__main__":
    sys.exit(main())
