"""``python -m benchmarks overhead``: run a benchmark, print its table and, with ``--json FILE``, write the numbers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import overhead
from benchmarks.measure import machine

BENCHMARKS = {"overhead": overhead}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = BENCHMARKS[arguments.benchmark]
    results = benchmark.run()
    table = Table(title=f"{arguments.benchmark}: forward and backward, {machine()}")
    for column in ("loss", "losses, us", "torch.nn, us", "ratio", f"limit {benchmark.LIMIT}"):
        table.add_column(column, justify="left" if column == "loss" else "right")
    for name, result in results.items():
        kept = "kept" if result.ratio <= benchmark.LIMIT else "missed"
        table.add_row(name, f"{result.ours:.1f}", f"{result.peer:.1f}", f"{result.ratio:.2f}", kept)
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": machine(), **{name: result._asdict() for name, result in results.items()}}, indent=2)
        )


if __name__ == "__main__":
    main()
