"""The loss of the batch of all processes: time of a step, memory and bytes sent of each, for 1, 2 and 4 of them.

Ours gathers the embeddings and computes on every rank what its own anchors cost, compared with all rows, or the pairs
that are dealt to it; of few rows, as of the triplets here beside the peers, every rank computes the whole.
``DistributedLossWrapper`` of pytorch-metric-learning, and the lines that gather by hand with its loss, compute the
whole on every rank. All processes run on this machine, one thread each, over gloo on its loopback: where there are more
of them than cores, times say little, and memory and bytes as much as ever.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from rich.console import Console

from benchmarks.harness import memory
from benchmarks.harness.environment import summary
from benchmarks.harness.ranks.processes import answers_of
from benchmarks.harness.ranks.sides import OURS, SIDES
from benchmarks.harness.ranks.work import Asked, Needs, Speed, needs, speeds
from benchmarks.harness.tables import empty_table, short, verdict

EQUAL = 1e-10  # of the largest entry of the gradient, in float64
FASTER = 1.6  # with two ranks than with one, where there are two cores
ROWS, PEERS_ROWS, PER_CLASS = 8192, 2048, 4
RANKS = (1, 2, 4)
PEERS_OF_TRIPLETS = 512  # rows: pytorch-metric-learning lists every triplet


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS), help="how many processes (default: 1 2 4)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each case, about (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="1 and 2 processes, few rows: does it run and agree?")


def asked(quick: bool, seconds: float) -> list[Asked]:
    """Return what is measured for every number of processes."""
    if quick:
        return [Asked(loss, 64, PER_CLASS, SIDES, 0.0) for loss in OURS]
    beside = [
        Asked(loss, PEERS_OF_TRIPLETS if loss == "triplet" else PEERS_ROWS, PER_CLASS, SIDES, seconds) for loss in OURS
    ]
    return [*beside, *(Asked(loss, ROWS, PER_CLASS, ("ours",), seconds) for loss in OURS)]


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all gradients were those of one process."""
    ranks = [1, 2] if arguments.quick else arguments.ranks
    cases = asked(arguments.quick, arguments.seconds)
    found = {
        count: (answers_of(count, speeds, cases), answers_of(count, needs, cases, memory.ALLOCATOR)) for count in ranks
    }
    rows = [row(one, name, count, found) for one in cases for name in one.sides for count in ranks]
    table = empty_table(
        f"distributed: forward and backward, float32, D = 128, {summary()} in each process",
        *("loss", "rows", "side", "ranks", "ms", "1 rank / this", "MiB of a rank", "MB sent by a rank", "difference"),
        text=1,
    )
    for one in rows:
        times = one["faster_than_one_rank"]
        table.add_row(
            *(one["loss"], str(one["rows"]), one["side"], str(one["ranks"]), short(one["milliseconds"])),
            *(f"{times:.2f}" if times else "", short(one["mebibytes"]), short(one["sent"]), f"{one['difference']:.0e}"),
        )
    console.print(table)
    speed = [one["faster_than_one_rank"] for one in rows if one["ranks"] == 2 and one["rows"] == ROWS]
    if speed and None not in speed:
        kept = verdict(min(speed) >= FASTER)
        times = f"{min(speed):.2f} to {max(speed):.2f} times as fast"
        console.print(f"two ranks, {ROWS} rows: {times}, all >= {FASTER}: {kept}")
    equal = all(one["difference"] <= EQUAL for one in rows if one["side"] == "ours")
    if not equal:
        console.print(f"ERROR a gradient of ours is not that of one process to {EQUAL}")
    return {"rows": rows}, equal


FoundByRanks = dict[int, tuple[dict[Asked, dict[str, Speed]], dict[Asked, dict[str, Needs]]]]


def row(one: Asked, name: str, ranks: int, found: FoundByRanks) -> dict[str, Any]:
    """Return one side with so many processes, as it is written down."""
    speed, need = (answers[one][name] for answers in found[ranks])
    alone = found[1][0][one][name] if 1 in found else None
    seconds = statistics.median(speed.seconds)
    return {
        "loss": one.loss,
        "rows": one.rows,
        "side": name,
        "ranks": ranks,
        "milliseconds": 1000 * seconds,
        "faster_than_one_rank": None if alone is None else statistics.median(alone.seconds) / seconds,
        "mebibytes": need.memory / memory.MEBIBYTE,
        "sent": need.sent / 1e6,
        "difference": speed.difference,
    }
