"""A whole training with our triplet loss, and the same with pytorch-metric-learning's: does it come to the same, and
how fast?

The default run of examples/train.py, with its own code: network, batches, optimiser, step and metrics. All that is
compared is trained in turns, a step of one and a step of the other, on the same batches from the same initial weights.

A training amplifies rounding, in float32 so soon that on two seeds of three even PML leaves itself by 4e-4 within 20
steps if a single weight starts one unit in the last place away. So the first steps are compared twice: in float64,
where they must be equal in proportion, and in float32, where they must be equal to 1e-4 and PML's distance from itself
is shown next to our distance from it.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from benchmarks.harness.command_line import at_least_one
from benchmarks.harness.environment import summary
from benchmarks.harness.timing import ratio
from benchmarks.harness.training.seeds import COMPARED, SIDES, Judged, judged, pooled, together
from benchmarks.harness.training.tables import (
    ABREAST,
    CAPTION,
    WIDTH,
    first_steps,
    metrics_table,
    times_table,
    together_table,
)
from benchmarks.harness.training.turns import examples, trained
from benchmarks.peers.pytorch_metric_learning import euclidean
from losses.adapters.pytorch_metric_learning import losses as pml
from losses.adapters.pytorch_metric_learning import reducers

if TYPE_CHECKING:
    from run_config import Run

RUN = "glyphs"


def planned(seed: int, steps: int | None) -> Run:
    """Return the default run, with another seed and perhaps another number of steps."""
    changes = [f"seed={seed}"] + ([] if steps is None else [f"steps={steps}"])
    return examples().run_config.planned(RUN, changes=changes)[RUN]


def peer(run: Run) -> nn.Module:
    """Return what computes the value of the run's loss: the mean over all triplets, of distances as they are.

    The run's network returns unit vectors already; to let PML normalise them once more would be another gradient.
    """
    same = {
        "name": "triplet",
        "distance": "euclidean",
        "mining": "all",
        "average": "all",
        "swap": False,
        "reduction": "mean",
    }
    if changed := {key: run.loss[key] for key in same if run.loss[key] != same[key]}:
        raise SystemExit(f"{RUN}.yaml trains with {changed}, for which no peer is written here")
    return pml.TripletMarginLoss(margin=run.loss["margin"], distance=euclidean(), reducer=reducers.MeanReducer())


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--steps", type=at_least_one, help="steps of training (default: those of the run)")
    parser.add_argument("--seeds", type=at_least_one, help="how many seeds, from 0 (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="30 steps of one seed, unless told otherwise: is it equal?"
    )


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether every seed went through: equal where that is required."""
    steps = arguments.steps or (30 if arguments.quick else None)
    runs = [planned(seed, steps) for seed in range(arguments.seeds or (1 if arguments.quick else 3))]
    say = Console(stderr=True)
    seeds = [trained(run, peer(run), seconds=0.1 if arguments.quick else 2.0, say=say) for run in runs]
    rows, times = judged(seeds), pooled(seeds)
    console.print(
        f"training: the run {RUN!r} of examples/, {runs[0].loss}; float32, batches of {runs[0].batch_size}", width=WIDTH
    )
    console.print(summary(), width=WIDTH)
    started = [seed for seed in seeds if seed.losses]
    for start in range(0, len(started), ABREAST):
        console.print(first_steps(started[start : start + ABREAST]), width=WIDTH)
    console.print(together_table(seeds), width=WIDTH)
    if rows:
        console.print(metrics_table(rows, runs[0].steps), width=WIDTH)
        console.print(times_table(times), width=WIDTH)
        console.print(CAPTION, highlight=False, width=WIDTH)
    for seed in seeds:
        if seed.error is not None:
            console.print(f"ERROR {seed.error}", highlight=False, markup=False, width=WIDTH)
    numbers = {
        "run": runs[0].values(),
        "rule": " ".join((Judged.__doc__ or "").partition("\n\n")[2].split()),
        "compared_steps": COMPARED,
        "seeds": [{**vars(seed), "together": together(seed)} for seed in seeds],
        "judged": [{**vars(row), "within": row.within} for row in rows],
        "milliseconds": {
            name: {side: 1000 * statistics.median(both[side]) for side in SIDES} for name, both in times.items()
        },
        "peer_over_ours": {name: ratio(both["PML"], both["ours"])._asdict() for name, both in times.items()},
    }
    return numbers, all(seed.error is None for seed in seeds)
