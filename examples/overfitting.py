"""Over-fitting on few samples, and what closes the gap: one table, one picture.

.venv/bin/python examples/overfitting.py
.venv/bin/python examples/overfitting.py --seeds 2 --steps 100 --output runs/quick

A network learns from 56 women whether a tumour is malignant, once as it is and once with each remedy, for several
seeds (of the network and of whose data it is given). Whatever is minimised, the gap is measured in one unit: the
cross-entropy on data that were not trained on, less that on those that were.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from pictures import draw_remedies
from report import progress, widened
from rich.console import Console
from rich.table import Table
from run_config import Run
from settings import read
from train import Learner, trained_on

import losses
from losses.diagnostics import EarlyStopping, GeneralizationGap

RUN: dict[str, Any] = {
    "task": {"name": "disease", "validation": 0.45, "testing": 0.45},
    "network": {"name": "mlp", "hidden": [256]},
    "loss": "binary_cross_entropy",
    "optimiser": {"name": "adam", "learning_rate": 3e-3},
    "batch_size": 32,
    "validate_every": 10,
    "validation_batches": 1,
}
REMEDIES: Mapping[str, dict[str, Any]] = {
    "none": {},
    **{
        name.replace("_", " "): {
            "loss": {
                "name": "weighted_sum",
                "terms": ["binary_cross_entropy", {"loss": {"name": name, "strength": strength}}],
            }
        }
        for name, strength in (("l2_penalty", 1e-2), ("l1_penalty", 1e-3), ("elastic_net", 2e-3))
    },
    "label smoothing": {"loss": {"name": "binary_cross_entropy", "label_smoothing": 0.05}},
    "early stopping": {"stop_after": 3},
}
"""What a run changes."""


class Outcome(NamedTuple):
    """What came of one remedy with one seed."""

    course: GeneralizationGap
    gap: float
    training: float
    validation: float
    accuracy: float
    steps: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Train with every remedy and every seed, show the table, and leave it with a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("runs/overfitting"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, list[Outcome]] = {}
    with progress() as bar:
        shown = bar.add_task("", total=len(REMEDIES) * options.seeds, loss="-")
        for remedy, changes in REMEDIES.items():
            found[remedy] = []
            for seed in range(options.seeds):
                outcome = trained({**RUN, **changes, "steps": options.steps, "seed": seed})
                found[remedy].append(outcome)
                bar.update(shown, advance=1, description=remedy, loss=f"{outcome.validation:.3f}")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "overfitting.json").write_text(json.dumps(numbers(found), indent=2))
    draw_remedies(
        {name: [one.course.points for one in each] for name, each in found.items()}, options.output / "gap.png"
    )
    console = Console()
    widened(console, sheet := table(found)).print(sheet)
    console.print(f"none, seed 0: {found['none'][0].course.verdict()}", soft_wrap=True, highlight=False)
    console.print(f"Picture and numbers: {options.output}", soft_wrap=True)
    return 0


def trained(values: dict[str, Any]) -> Outcome:
    """Train one run and follow its gap; where it stops early its best network is measured at the end."""
    values = {**values, "task": {**values["task"], "split_seed": values["seed"]}}
    run = read(Run, values)
    torch.manual_seed(run.seed)
    learner = Learner(run)
    optimiser = run.optimiser.build(learner.parameters())
    batches = run.task.batches("training", run.kind, run.batch_size)
    course, stopping = GeneralizationGap(), EarlyStopping(learner, patience=run.stop_after or run.steps + 1)
    course.add(0, *measured(learner, run))
    for step in range(1, run.steps + 1):
        trained_on(batches(run.seed, step - 1), learner, optimiser)
        if step % run.validate_every == 0:
            course.add(step, *measured(learner, run))
            if stopping.update(step, course.points[-1].validation):
                break
    if run.stop_after is not None:
        stopping.restore()
    training, validation = measured(learner, run)
    accuracy = run.task.metrics(learner.network)["accuracy"]
    return Outcome(course, validation - training, training, validation, accuracy, step)


@torch.no_grad()
def measured(learner: Learner, run: Run) -> tuple[float, float]:
    """Return the cross-entropy on all training and all validation data, whatever is minimised."""
    learner.eval()
    cross_entropy = losses.create("binary_cross_entropy")
    training, validation = (
        cross_entropy(learner.network(samples.inputs), samples.target).item()
        for samples in (run.task.parts[part] for part in ("training", "validation"))
    )
    return training, validation


def table(found: Mapping[str, Sequence[Outcome]]) -> Table:
    """Return a row for every remedy: means over the seeds, and their standard deviation."""
    seeds = len(next(iter(found.values())))
    sheet = Table(title=f"Cross-entropy at the end, mean and deviation of {seeds} seeds", min_width=60)
    sheet.add_column("remedy", no_wrap=True)
    for name in ("training", "validation", "gap", "test accuracy", "steps"):
        sheet.add_column(name, justify="right", no_wrap=True)
    for remedy, outcomes in found.items():
        cells = [spread([getattr(one, name) for one in outcomes]) for name in MEASURED]
        sheet.add_row(remedy, *cells, f"{fmean(one.steps for one in outcomes):.0f}")
    return sheet


MEASURED = ("training", "validation", "gap", "accuracy")


def spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}"


def numbers(found: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """Return what ``overfitting.json`` holds."""
    return {
        remedy: [{name: getattr(one, name) for name in (*MEASURED, "steps")} for one in outcomes]
        for remedy, outcomes in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
