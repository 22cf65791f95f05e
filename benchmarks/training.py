"""A whole training with our triplet loss, and the same with pytorch-metric-learning's: does it come to the same, and
how fast?

The default run of examples/train.py, with its own code: network, batches, optimiser, step and figures. All that is
compared is trained in turns, a step of one and a step of the other, on the same batches from the same initial weights.

A training amplifies rounding, in float32 so soon that on two seeds of three even PML leaves itself by 4e-4 within 20
steps if a single weight starts one unit in the last place away. So the first steps are compared twice: in float64,
where they must be equal in proportion, and in float32, where they must be equal to 1e-4 and PML's distance from itself
is shown next to our distance from it.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.reducers import MeanReducer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from benchmarks.measure import Difference, UnequalError, difference, ratio, require_equal, step, summary, timed
from benchmarks.peers import euclidean

if TYPE_CHECKING:
    from run_config import Run
    from train import Learner

EXAMPLES = Path(__file__).parent.parent / "examples"
RUN = "glyphs"
SIDES = ("ours", "PML")
NUDGED = "nudged"  # PML once more, one weight one unit in the last place away
COMPARED = 20  # steps whose losses are compared
TOLERANCE = 1e-4  # of a loss in float32: as it is, required; relative to that of PML, shown
EQUAL = 1e-7  # of a loss in float64, relative to that of PML: required
# On the embeddings that are timed, against PML in float64: whether it is the same mathematics. Batches hold images
# twice where a letter has too few, and torch.cdist, which PML takes, makes up to 4e-8 of a distance of 0 (in float32,
# 7e-4)
ROUNDED = Difference(value=1e-5, gradient=1e-4)
EXACT = Difference(value=1e-7, gradient=1e-6)
WARM_UP = 3  # steps that are not timed
ABREAST = 3  # seeds side by side in the table of the first steps
WIDTH = 120


def examples() -> SimpleNamespace:
    """Return the modules of examples/ that train.

    They are imported only when needed: they bring matplotlib and scikit-learn along, which other benchmarks have no use
    for.
    """
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))  # as Python does for `python examples/train.py`
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("run_config", "train")})


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
    return pml.TripletMarginLoss(margin=run.loss["margin"], distance=euclidean(), reducer=MeanReducer())


def learner_with(loss: nn.Module | None, run: Run, dtype: torch.dtype = torch.float32) -> Learner:
    """Return the run's learner as train.py starts with it, its loss replaced unless that is ``None``."""
    torch.manual_seed(run.seed)
    learner = examples().train.Learner(run).to(dtype)
    if loss is not None:
        learner.loss = loss
    return learner


@torch.no_grad()
def nudged(learner: Learner) -> Learner:
    """Return the learner with one weight moved to the next number: what no statement about a training may depend on."""
    weight = next(learner.network.parameters()).view(-1)[:1]
    weight.copy_(weight.nextafter(weight + 1))
    return learner


@dataclass
class Trained:
    """What came of one seed. After an error there are no figures and no times.

    Args:
        seed: of initial weights and batches.
        double: losses of the first steps in float64, by side.
        losses: of every step, by side and ``"nudged"``.
        figures: on alphabets that were not trained on, likewise.
        steps: seconds of every timed step, likewise.
        alone: seconds of the loss forward and backward, by the state of the network that made the embeddings, by side.
        equality: how far losses are from PML in float64 on these embeddings.
        error: why the seed was given up.
    """

    seed: int
    double: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=dict)
    alone: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    equality: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    error: str | None = None

    def distances(self) -> list[float]:
        """Return how far our losses are from PML's in float32, step by step, not in proportion."""
        return (
            [abs(ours - other) for ours, other in zip(self.losses["ours"], self.losses["PML"], strict=True)]
            if self.losses
            else []
        )

    def differences(self, side: str = "ours") -> list[float]:
        """Return how far the losses of a side are from PML's in float32, step by step."""
        return relative(self.losses[side], self.losses["PML"]) if self.losses else []


def relative(values: Sequence[float], expected: Sequence[float]) -> list[float]:
    """Return how far values are from the expected ones, relative to those; NaN and infinity are as far as can be."""
    found = (
        abs(value - other) / abs(other) if other else float(value != other)
        for value, other in zip(values, expected, strict=True)
    )
    return [far if math.isfinite(far) else math.inf for far in found]


def parted(differences: Sequence[float], tolerance: float) -> int | None:
    """Return the first step that differs by more than the tolerance, counted from 1."""
    return next((number for number, far in enumerate(differences, 1) if far > tolerance), None)


def trained(run: Run, other: nn.Module, *, seconds: float, say: Console | None = None) -> Trained:
    """Train with both losses, for some steps in float64 and then as the run says.

    Args:
        run: what to train.
        other: PML's loss, or whatever takes its place.
        seconds: for timing the loss alone, about.
        say: where progress is shown.
    """
    found = Trained(run.seed)
    double = {side: learner_with(loss, run, torch.float64) for side, loss in (("ours", None), ("PML", other))}
    learners = {
        "ours": learner_with(None, run),
        "PML": learner_with(other, run),
        NUDGED: nudged(learner_with(other, run)),
    }
    try:
        found.double, _ = in_turns(double, run, range(min(COMPARED, run.steps)))
        if number := parted(relative(*found.double.values()), EQUAL):
            ours, expected = (losses[number - 1] for losses in found.double.values())
            raise UnequalError(f"step {number} in float64: our loss is {ours:.10g}, PML's is {expected:.10g}")
        time_alone(found, "untrained", learners, run, seconds)
        found.losses, found.steps = in_turns(learners, run, progress(run, say))
        if number := parted(found.distances()[:COMPARED], TOLERANCE):
            ours, expected = (found.losses[side][number - 1] for side in SIDES)
            raise UnequalError(f"step {number} in float32: our loss is {ours:.7g}, PML's is {expected:.7g}")
        time_alone(found, "trained", learners, run, seconds)
        found.figures = {side: dict(examples().train.figures_of(learner, run)) for side, learner in learners.items()}
    except UnequalError as error:
        return Trained(run.seed, found.double, found.losses, error=f"seed {run.seed}, {error}")
    return found


def in_turns(
    learners: dict[str, Learner], run: Run, steps: Iterable[int]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Train learners step by step with train.py's own step; return the loss of every step, and the seconds of those
    after the warm-up.

    Who begins changes with every step, since whoever does is the one that loads the batch into the cache.
    """
    train = examples().train
    optimisers = {side: run.optimiser.build(learner.parameters()) for side, learner in learners.items()}
    batches = run.task.batches("training", run.kind, run.batch_size)
    losses: dict[str, list[float]] = {side: [] for side in learners}
    spent: dict[str, list[float]] = {side: [] for side in learners}
    order = list(learners)
    dtype = next(learners[order[0]].parameters()).dtype
    for index in steps:
        batch = batches(run.seed, index)
        batch = batch._replace(inputs=tuple(part.to(dtype) for part in batch.inputs))
        for side in order:
            begin = time.perf_counter()
            loss = train.trained_on(batch, learners[side], optimisers[side])
            seconds = time.perf_counter() - begin
            losses[side].append(loss)
            if index >= WARM_UP:
                spent[side].append(seconds)
        order = [*order[1:], order[0]]
    return losses, spent


def progress(run: Run, say: Console | None) -> Iterable[int]:
    """Return the steps of a run, and show how far it is."""
    steps = range(run.steps)
    return steps if say is None else track(steps, f"seed {run.seed}", console=say, transient=True)


def time_alone(found: Trained, state: str, learners: dict[str, Learner], run: Run, seconds: float) -> None:
    """Time both losses on the embeddings that our network makes of one batch, after seeing that they are equal
    there."""
    (images,), labels = run.task.batches("training", run.kind, run.batch_size)(run.seed, 0)
    with torch.no_grad():
        embeddings = learners["ours"].network.eval()(images)
    double = {side: step(learners[side].loss, (embeddings.double().requires_grad_(),), labels) for side in SIDES}
    single = {side: step(learners[side].loss, (embeddings.clone().requires_grad_(),), labels) for side in SIDES}
    expected = double["PML"]()
    name = f"the losses of the {state} network"
    found.equality[state] = {
        "ours in float64": require_equal(f"{name} in float64", double["ours"](), expected, EXACT)._asdict(),
        "ours in float32": require_equal(f"{name} in float32", single["ours"](), expected, ROUNDED)._asdict(),
        "PML in float32": difference(single["PML"](), expected)._asdict(),
    }
    found.alone[state] = timed(single, budget=seconds)


@dataclass(frozen=True)
class Judged:
    """One figure of one seed on both sides, and by how much it moves where only the seed is another.

    The rule: the difference of the two sides at one seed lies within the spread where it is at most the range (largest
    minus smallest) of PML's figure over all seeds. PML's range alone, since a range over both sides would hold every
    difference, and ours would excuse whatever is unsteady about us. A few seeds measure a spread roughly, so this is
    shown, not required; and so is how far PML gets from itself by a nudge, which is rounding and nothing else.
    """

    figure: str
    seed: int
    ours: float
    other: float
    nudged: float
    spread: float | None

    @property
    def within(self) -> bool | None:
        """Whether the rule holds; ``None`` for a single seed, which has no spread."""
        return None if self.spread is None else abs(self.ours - self.other) <= self.spread


def judged(seeds: Sequence[Trained]) -> list[Judged]:
    """Return every figure of every seed, judged."""
    found = []
    complete = [seed for seed in seeds if seed.figures]
    for figure in complete[0].figures["ours"] if complete else ():
        values = [{side: figures[figure] for side, figures in seed.figures.items()} for seed in complete]
        others = [value["PML"] for value in values]
        spread = max(others) - min(others) if len(others) > 1 else None
        found += [
            Judged(figure, seed.seed, value["ours"], value["PML"], value[NUDGED], spread)
            for seed, value in zip(complete, values, strict=True)
        ]
    return found


def sheet(title: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for position, column in enumerate(columns):
        shown.add_column(column, justify="right" if position else "left", no_wrap=True)
    return shown


def first_steps(seeds: Sequence[Trained]) -> Table:
    """Return the losses of the first steps, side by side."""
    shown = sheet(
        "loss of each step, float32",
        "step",
        *(column for seed in seeds for column in (f"seed {seed.seed}\nours", "\nPML", "\ndifference")),
    )
    for index in range(max(min(COMPARED, len(seed.differences())) for seed in seeds)):
        cells: list[str] = []
        for seed in seeds:
            differences = seed.differences()
            if index < len(differences):
                cells += [*(f"{seed.losses[side][index]:.7f}" for side in SIDES), f"{differences[index]:.1e}"]
            else:
                cells += [""] * 3
        shown.add_row(str(index + 1), *cells)
    return shown


def together(seed: Trained) -> dict[str, dict[str, Any]]:
    """Return how long, and how closely, the first steps stay together: in both precisions, and PML with itself
    nudged."""
    rows = {
        "ours - PML, float32": (seed.distances(), TOLERANCE),
        "ours / PML - 1, float64": (relative(*seed.double.values()) if seed.double else [], EQUAL),
        "ours / PML - 1, float32": (seed.differences(), TOLERANCE),
        "PML nudged / PML - 1, float32": (seed.differences(NUDGED), TOLERANCE),
    }
    return {
        name: {
            "tolerance": tolerance,
            "largest": max(differences[:COMPARED]),
            "kept": parted(differences[:COMPARED], tolerance) is None,
            "parted": parted(differences, tolerance),
            "steps": len(differences),
        }
        for name, (differences, tolerance) in rows.items()
        if differences
    }


def together_table(seeds: Sequence[Trained]) -> Table:
    """Return the same as a table."""
    shown = sheet(
        f"difference of the losses in the first {COMPARED} steps",
        *("", "seed", "largest", "limit", "kept", "first step beyond it"),
    )
    found = {seed.seed: together(seed) for seed in seeds}
    for name in dict.fromkeys(name for rows in found.values() for name in rows):
        for number, rows in found.items():
            if name in rows:
                row = rows[name]
                beyond = f"none of {row['steps']}" if row["parted"] is None else str(row["parted"])
                shown.add_row(
                    name,
                    str(number),
                    f"{row['largest']:.1e}",
                    f"{row['tolerance']:.0e}",
                    yes_or_no(row["kept"]),
                    beyond,
                )
    return shown


def yes_or_no(kept: bool | None) -> str:
    """Return an answer in a word."""
    return "" if kept is None else "yes" if kept else "no"


def figures_table(rows: Sequence[Judged], steps: int) -> Table:
    """Return what the networks are worth after the last step."""
    shown = sheet(
        f"after {steps} steps, on alphabets that were not trained on",
        *("figure", "seed", "ours", "PML", "ours - PML", "PML's range over seeds", "within", "PML nudged - PML"),
    )
    for row in rows:
        spread = "" if row.spread is None else f"{row.spread:.4f}"
        numbers = (f"{row.ours:.4f}", f"{row.other:.4f}", f"{row.ours - row.other:+.4f}")
        shown.add_row(
            row.figure, str(row.seed), *numbers, spread, yes_or_no(row.within), f"{row.nudged - row.other:+.4f}"
        )
    return shown


def pooled(seeds: Sequence[Trained]) -> dict[str, dict[str, list[float]]]:
    """Return the times of all seeds by what was timed and by side, as pairs that were taken in turns."""
    complete = [seed for seed in seeds if seed.error is None]
    found = {"training step": {side: [spent for seed in complete for spent in seed.steps[side]] for side in SIDES}}
    for state in complete[0].alone if complete else ():
        found[f"loss alone, {state}"] = {
            side: [spent for seed in complete for spent in seed.alone[state][side]] for side in SIDES
        }
    return {name: times for name, times in found.items() if times["ours"]}


def times_table(times: dict[str, dict[str, list[float]]]) -> Table:
    """Return the medians of what was timed."""
    shown = sheet("median time", "", "ours, ms", "PML, ms", "PML / ours (quartiles)", "pairs")
    for name, both in times.items():
        times_as_long = ratio(both["PML"], both["ours"])
        shown.add_row(
            name,
            *(f"{1000 * statistics.median(both[side]):.3f}" for side in SIDES),
            f"{times_as_long.median:.2f} ({times_as_long.lower:.2f}-{times_as_long.upper:.2f})",
            str(len(both["ours"])),
        )
    return shown


CAPTION = """\
within: |ours - PML| at the same seed is at most the range (largest - smallest) of PML's figure over the seeds.
nudged: PML again, one weight starting one unit in the last place away; how much rounding alone changes.
training step: train.trained_on, the batch drawn before. loss alone: forward and backward on the embeddings that
the network makes of one batch, before and after training. PML / ours: median of pairs taken in turns."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--steps", type=at_least_one, help="steps of training (default: those of the run)")
    parser.add_argument("--seeds", type=at_least_one, help="how many seeds, from 0 (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="30 steps of one seed, unless told otherwise: is it equal?"
    )


def at_least_one(text: str) -> int:
    """Return a count from the command line."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {count}, expected at least 1")
    return count


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
        console.print(figures_table(rows, runs[0].steps), width=WIDTH)
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
