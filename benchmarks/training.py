"""A whole training with our triplet loss, and the same with pytorch-metric-learning's: does it come to the same, and how fast?

The default run of examples/train.py, with its own code: network, batches, optimiser, step and figures. The two are trained in
turns, a step of one and a step of the other, each on the same batch from the same initial weights. Their losses must be equal
for the first steps; later ones differ, since a training amplifies the rounding of float32.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
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

from benchmarks.measure import Difference, UnequalError, ratio, require_equal, step, summary, timed
from benchmarks.peers import euclidean

if TYPE_CHECKING:
    from run_config import Run
    from train import Learner

EXAMPLES = Path(__file__).parent.parent / "examples"
RUN = "glyphs"
SIDES = ("ours", "PML")
COMPARED = 20  # steps that must be equal
TOLERANCE = 1e-4  # of a loss, relative to that of PML
# float64 against float64 on the embeddings that are timed: whether it is the same mathematics. Batches hold images twice where a
# letter has too few, and torch.cdist, which PML takes, makes up to 2e-8 of a distance of 0
EXACT = Difference(value=1e-7, gradient=1e-6)
WARM_UP = 3  # steps that are not timed
ABREAST = 3  # seeds side by side in the table of the first steps
WIDTH = 120


def examples() -> SimpleNamespace:
    """Return the modules of examples/ that train.

    They are imported only when needed: they bring matplotlib and scikit-learn along, which other benchmarks have no use for.
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
    same = {"name": "triplet", "distance": "euclidean", "mining": "all", "average": "all", "swap": False, "reduction": "mean"}
    if changed := {key: run.loss[key] for key in same if run.loss[key] != same[key]}:
        raise SystemExit(f"{RUN}.yaml trains with {changed}, for which no peer is written here")
    return pml.TripletMarginLoss(margin=run.loss["margin"], distance=euclidean(), reducer=MeanReducer())


def learner_with(loss: nn.Module | None, run: Run) -> Learner:
    """Return the run's learner as train.py starts with it, its loss replaced unless that is ``None``."""
    torch.manual_seed(run.seed)
    learner = examples().train.Learner(run)
    if loss is not None:
        learner.loss = loss
    return learner


@dataclass
class Trained:
    """What came of one seed. After an error there are no figures and no times.

    Args:
        seed: of initial weights and batches.
        losses: of every step, by side.
        figures: on alphabets that were not trained on, by side.
        steps: seconds of every timed step, by side.
        alone: seconds of the loss forward and backward, by the state of the network that made the embeddings, by side.
        exact: how far the losses are from each other in float64 on these embeddings.
        error: why the seed was given up.
    """

    seed: int
    losses: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    alone: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    exact: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str | None = None

    @property
    def differences(self) -> list[float]:
        """How far our loss is from PML's at every step, relative to PML's."""
        pairs = zip(*self.losses.values(), strict=True)
        return [abs(ours - other) / abs(other) if other else float(ours != other) for ours, other in pairs]

    @property
    def parted(self) -> int | None:
        """The first step whose losses differ by more than the tolerance, counted from 1; NaN does."""
        return next((number for number, far in enumerate(self.differences, 1) if not far <= TOLERANCE), None)


def trained(run: Run, other: nn.Module, *, seconds: float, say: Console | None = None) -> Trained:
    """Train with both losses in turns; the side that begins changes with every step, since it is the one that loads the batch.

    Args:
        run: what to train.
        other: PML's loss, or whatever takes its place.
        seconds: for timing the loss alone, about.
        say: where progress is shown.
    """
    train = examples().train
    learners = dict(zip(SIDES, (learner_with(None, run), learner_with(other, run)), strict=True))
    optimisers = {side: run.optimiser.build(learner.parameters()) for side, learner in learners.items()}
    batches = run.task.batches("training", run.kind, run.batch_size)
    found = Trained(run.seed)
    try:
        time_alone(found, "untrained", learners, run, seconds)
        for index in progress(run, say):
            batch = batches(run.seed, index)
            for side in SIDES if index % 2 == 0 else reversed(SIDES):
                begin = time.perf_counter()
                loss = train.trained_on(batch, learners[side], optimisers[side])
                spent = time.perf_counter() - begin
                found.losses[side].append(loss)
                if index >= WARM_UP:
                    found.steps[side].append(spent)
            if index < COMPARED and found.parted is not None:
                ours, expected = (found.losses[side][-1] for side in SIDES)
                raise UnequalError(f"step {found.parted}: our loss is {ours:.7g}, PML's is {expected:.7g}")
        time_alone(found, "trained", learners, run, seconds)
        found.figures = {side: dict(train.figures_of(learner, run)) for side, learner in learners.items()}
    except UnequalError as error:
        return Trained(run.seed, found.losses, error=f"seed {run.seed}, {error}")
    return found


def progress(run: Run, say: Console | None) -> Iterator[int]:
    """Yield the steps of a run, and show how far it is."""
    steps = range(run.steps)
    yield from steps if say is None else track(steps, f"seed {run.seed}", console=say, transient=True)


def time_alone(found: Trained, state: str, learners: dict[str, Learner], run: Run, seconds: float) -> None:
    """Time both losses on the embeddings that our network makes of one batch, after seeing that they are the same in float64."""
    learner = learners["ours"]
    (images,), labels = run.task.batches("training", run.kind, run.batch_size)(run.seed, 0)
    with torch.no_grad():
        embeddings = learner.network.eval()(images)
    losses = {side: one.loss for side, one in learners.items()}
    ours, other = (step(loss, (embeddings.double().requires_grad_(),), labels)() for loss in losses.values())
    found.exact[state] = require_equal(f"the losses of the {state} network", ours, other, EXACT)._asdict()
    functions = {side: step(loss, (embeddings.clone().requires_grad_(),), labels) for side, loss in losses.items()}
    found.alone[state] = timed(functions, budget=seconds)


@dataclass(frozen=True)
class Judged:
    """One figure of one seed on both sides, and by how much it moves where only the seed is another.

    The rule: the difference of the two sides at one seed lies within the spread where it is at most the range (largest minus
    smallest) of PML's figure over all seeds. PML's range alone, since a range over both sides would hold every difference, and
    ours would excuse whatever is unsteady about us. A few seeds measure a spread roughly, so this is shown, not required.
    """

    figure: str
    seed: int
    ours: float
    other: float
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
        others = [seed.figures["PML"][figure] for seed in complete]
        spread = max(others) - min(others) if len(others) > 1 else None
        found += [Judged(figure, seed.seed, seed.figures["ours"][figure], seed.figures["PML"][figure], spread) for seed in complete]
    return found


def sheet(title: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for position, column in enumerate(columns):
        shown.add_column(column, justify="right" if position else "left", no_wrap=True)
    return shown


def first_steps(seeds: Sequence[Trained]) -> Table:
    """Return the losses that must be equal, side by side."""
    shown = sheet(
        f"loss of the first {COMPARED} steps; the relative difference is to be at most {TOLERANCE:.0e}",
        "step",
        *(column for seed in seeds for column in (f"seed {seed.seed}\nours", "\nPML", "\ndifference")),
    )
    for index in range(COMPARED):
        cells = []
        for seed in seeds:
            if index < len(seed.differences):
                cells += [*(f"{seed.losses[side][index]:.7f}" for side in SIDES), f"{seed.differences[index]:.1e}"]
            else:
                cells += ["", "", ""]
        shown.add_row(str(index + 1), *cells)
    return shown


def figures_table(rows: Sequence[Judged], steps: int) -> Table:
    """Return what the networks are worth after the last step."""
    shown = sheet(
        f"after {steps} steps, on alphabets that were not trained on",
        *("figure", "seed", "ours", "PML", "ours - PML", "PML's range over seeds", "within"),
    )
    for row in rows:
        spread = "" if row.spread is None else f"{row.spread:.4f}"
        within = "" if row.within is None else "yes" if row.within else "no"
        shown.add_row(row.figure, str(row.seed), f"{row.ours:.4f}", f"{row.other:.4f}", f"{row.ours - row.other:+.4f}", spread, within)
    return shown


def pooled(seeds: Sequence[Trained]) -> dict[str, dict[str, list[float]]]:
    """Return the times of all seeds by what was timed and by side, as pairs that were taken one after the other."""
    complete = [seed for seed in seeds if seed.error is None]
    found = {"training step": {side: [spent for seed in complete for spent in seed.steps[side]] for side in SIDES}}
    for state in complete[0].alone if complete else ():
        found[f"loss alone, {state}"] = {side: [spent for seed in complete for spent in seed.alone[state][side]] for side in SIDES}
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
training step: train.trained_on, the batch drawn before. loss alone: forward and backward, on the embeddings that the network
makes of one batch before and after training. PML / ours: median of interleaved pairs."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--steps", type=at_least_one, help="steps of training (default: those of the run)")
    parser.add_argument("--seeds", type=at_least_one, help="how many seeds, from 0 (default: 3)")
    parser.add_argument("--quick", action="store_true", help="30 steps of one seed, unless told otherwise: is it equal?")


def at_least_one(text: str) -> int:
    """Return a count from the command line."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {count}, expected at least 1")
    return count


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether the first steps of every seed were equal."""
    steps = arguments.steps or (30 if arguments.quick else None)
    runs = [planned(seed, steps) for seed in range(arguments.seeds or (1 if arguments.quick else 3))]
    say = Console(stderr=True)
    seeds = [trained(run, peer(run), seconds=0.1 if arguments.quick else 2.0, say=say) for run in runs]
    rows, times = judged(seeds), pooled(seeds)
    console.print(f"training: the run {RUN!r} of examples/, {runs[0].loss}; float32, batches of {runs[0].batch_size}", width=WIDTH)
    console.print(summary(), width=WIDTH)
    for start in range(0, len(seeds), ABREAST):
        console.print(first_steps(seeds[start : start + ABREAST]), width=WIDTH)
    if rows:
        console.print(figures_table(rows, runs[0].steps), width=WIDTH)
        console.print(times_table(times), width=WIDTH)
        console.print(CAPTION, highlight=False, width=WIDTH)
    for seed in seeds:
        console.print(ended(seed), highlight=False, markup=False, width=WIDTH)
    numbers = {
        "run": runs[0].values(),
        "rule": (Judged.__doc__ or "").partition("\n\n")[2],
        "compared_steps": COMPARED,
        "tolerance": TOLERANCE,
        "seeds": [{**vars(seed), "differences": seed.differences, "parted": seed.parted} for seed in seeds],
        "judged": [{**vars(row), "within": row.within} for row in rows],
        "milliseconds": {name: {side: 1000 * statistics.median(both[side]) for side in SIDES} for name, both in times.items()},
        "peer_over_ours": {name: ratio(both["PML"], both["ours"])._asdict() for name, both in times.items()},
    }
    return numbers, all(seed.error is None for seed in seeds)


def ended(seed: Trained) -> str:
    """Return in a sentence how long the two sides of a seed stayed together."""
    if seed.error is not None:
        return f"ERROR {seed.error}"
    if seed.parted is None:
        return f"seed {seed.seed}: the losses of all {len(seed.differences)} steps differ by at most {max(seed.differences):.1e}"
    return f"seed {seed.seed}: step {seed.parted} is the first whose losses differ by more than {TOLERANCE:.0e}"
