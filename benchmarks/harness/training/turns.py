"""Two trainings in turns: a step with our loss, a step with the other, on the same batches from the same weights."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from benchmarks.harness.equality import Difference, UnequalError, difference, relative, require_equal, step
from benchmarks.harness.timing import timed
from benchmarks.harness.training.seeds import COMPARED, EQUAL, NUDGED, SIDES, TOLERANCE, Trained, parted

if TYPE_CHECKING:
    from run_config import Run
    from train import Learner

EXAMPLES = Path(__file__).parents[3] / "examples"
WARM_UP = 3  # steps that are not timed
# On the embeddings that are timed, against PML in float64: whether it is the same mathematics. Batches hold images
# twice where a letter has too few, and torch.cdist, which PML takes, makes up to 4e-8 of a distance of 0 (in float32,
# 7e-4)
ROUNDED = Difference(value=1e-5, gradient=1e-4)
EXACT = Difference(value=1e-7, gradient=1e-6)


def examples() -> SimpleNamespace:
    """Return the modules of examples/ that train.

    They are imported only when needed: they bring matplotlib and scikit-learn along, which other benchmarks have no use
    for.
    """
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))  # as Python does for `python examples/train.py`
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("run_config", "train")})


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
        found.double, _ = trained_in_turns(double, run, range(min(COMPARED, run.steps)))
        if number := parted(relative(*found.double.values()), EQUAL):
            ours, expected = (losses[number - 1] for losses in found.double.values())
            raise UnequalError(f"step {number} in float64: our loss is {ours:.10g}, PML's is {expected:.10g}")
        time_alone(found, "untrained", learners, run, seconds)
        found.losses, found.steps = trained_in_turns(learners, run, progress(run, say))
        if number := parted(found.distances()[:COMPARED], TOLERANCE):
            ours, expected = (found.losses[side][number - 1] for side in SIDES)
            raise UnequalError(f"step {number} in float32: our loss is {ours:.7g}, PML's is {expected:.7g}")
        time_alone(found, "trained", learners, run, seconds)
        found.metrics = {side: dict(examples().train.metrics_of(learner, run)) for side, learner in learners.items()}
    except UnequalError as error:
        return Trained(run.seed, found.double, found.losses, error=f"seed {run.seed}, {error}")
    return found


def trained_in_turns(
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
