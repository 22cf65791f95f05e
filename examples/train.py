"""Train a network as a file of ``configs/`` says, and see what came of it.

.venv/bin/python examples/train.py                              the default run: verification of letters
.venv/bin/python examples/train.py digits                       another run
.venv/bin/python examples/train.py --loss triplet --loss circle the same run once per loss, and one table
.venv/bin/python examples/train.py --set loss.margin=0.3        the same run with another value
.venv/bin/python examples/train.py --resume                     on from the last checkpoint
.venv/bin/python examples/train.py --overwrite                  from the start, in place of the run that is there

A run writes to runs/<name>, and never over another run unless told so.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import checkpoint
import torch
import yaml
from batches import Batch, Batches, Target
from history import Evaluation, History, Reading
from pictures import draw_losses, draw_readings
from report import MeasuredReadings, collapse_warnings, progress, readings_lines, table, widened
from rich.console import Console
from run_config import Run, left_out, planned
from run_folder import CHECKPOINT, CONFIG, METRICS, clear, require_free, require_resumable
from tasks.task import Metrics
from torch import Tensor, nn
from torch.optim import Optimizer

import losses
from losses import ConfigError, InputError
from losses.core.errors import Problem
from losses.diagnostics import EarlyStopping
from losses.objective.gradient_norm import GradientNorm


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line asks for and return the exit status."""
    options = parsed(arguments)
    torch.set_num_threads(1)  # small steps: a second thread costs more than it brings
    try:
        runs = planned(options.run, options.loss, options.set)
        folders = {name: options.output / name for name in runs}
        if options.resume:
            require_resumable(folders.values())
        else:
            if not options.overwrite:
                require_free(folders.values())
            for line in left_out(options.run, options.loss, options.set):
                print(line, file=sys.stderr)
        results = {name: train(name, run, folders[name], resume=options.resume) for name, run in runs.items()}
    except (ConfigError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    except DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    show(runs, results, options.output)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", default="glyphs", help="name of a file in configs/, or the path of one (default: glyphs)"
    )
    parser.add_argument(
        "--loss",
        action="append",
        default=[],
        help="train with this loss instead, a name (with its default parameters) or a mapping in YAML such as "
        "'{name: triplet, margin: 0.3}'; repeatable",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the run; repeatable"
    )
    former = parser.add_mutually_exclusive_group()
    former.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    former.add_argument("--overwrite", action="store_true", help="replace a run that is in the folder already")
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), help="folder that gets a folder for every run (default: runs)"
    )
    return parser.parse_args(arguments)


class Result(NamedTuple):
    """What came of a run."""

    baselines: dict[str, Metrics]
    metrics: Metrics
    history: History
    distance: str
    """In which the readings of the loss measure."""


RATIO = "validation\n/ training\nloss"
"""What the table calls it: a number without a unit, since losses that are compared may have different ones."""


class DivergedError(Exception):
    """A loss that is no longer a number: nothing more can be learnt."""


class Learner(nn.Module):
    """A network with the loss that trains it: both may have parameters to learn and a state to keep."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.loss = losses.create(run.loss)
        self.network = run.network.build(run.kind.returns, run.task.shape, run.task.outputs, self.loss)

    @property
    def differentiates(self) -> bool:
        """Whether the loss looks at the gradient of the output by the inputs."""
        return any(isinstance(part, GradientNorm) for part in self.loss.modules())

    def beside(self, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        """What a loss is given beside a batch: the network and its inputs, where it may hold penalties on them."""
        return {"model": self.network, "inputs": inputs} if isinstance(self.loss, losses.WeightedSumLoss) else {}

    def prepared(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the inputs as the network is called with them."""
        return tuple(part.detach().requires_grad_() for part in inputs) if self.differentiates else inputs

    def forward(self, inputs: tuple[Tensor, ...], target: Target) -> Tensor:
        inputs = self.prepared(inputs)
        return self.loss(self.network(*inputs), target, **self.beside(inputs))

    def seen(self, inputs: tuple[Tensor, ...], target: Target) -> dict[str, float]:
        """Return the loss of a batch as ``loss``, and its readings by their names."""
        inputs = self.prepared(inputs)
        with torch.set_grad_enabled(self.differentiates):  # a gradient by the inputs is taken through the graph
            output = self.network(*inputs)
        loss, readings = (see(output, target, **self.beside(inputs)) for see in (self.loss, self.loss.readings))
        return {name: value.item() for name, value in {"loss": loss, **readings}.items()}


def train(name: str, run: Run, folder: Path, *, resume: bool) -> Result:
    """Train one run and leave in its folder what came of it."""
    torch.manual_seed(run.seed)
    learner = Learner(run)
    optimiser = run.optimiser.build(learner.parameters())
    history = History()
    baselines = {"untrained": metrics_of(learner, run), **run.task.references()}

    stopping = EarlyStopping(learner, patience=run.stop_after or run.steps + 1)
    parts: dict[str, checkpoint.Stateful] = {"learner": learner, "optimiser": optimiser, "history": history}
    if run.stop_after is not None:
        parts["stopping"] = stopping
    if resume and (folder / CHECKPOINT).exists():
        checkpoint.restore(folder / CHECKPOINT, run, parts)
        if history.steps > run.steps:
            raise ConfigError(
                Problem(("steps",), f"got {run.steps}, the checkpoint in {folder} has done {history.steps} already")
            )
    else:
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(run.values(), sort_keys=False))

    batches = run.task.batches("training", run.kind, run.batch_size)
    monitored = [run.task.batches(part, run.kind, run.batch_size) for part in ("training", "validation")]
    if resume and history.steps == run.steps:
        print(f"{name}: is finished, all {run.steps} steps are done; --set steps=... goes on", file=sys.stderr)
    elif stopping.is_over:
        print(f"{name}: is finished, it stopped after {history.steps} steps", file=sys.stderr)
    else:
        with progress() as bar:
            shown = bar.add_task(name, total=run.steps, completed=history.steps, loss=last_loss(history))
            for _ in steps_of(name, run, learner, optimiser, history, batches, monitored):
                bar.update(shown, completed=history.steps, loss=last_loss(history))
                if history.steps % run.validate_every == 0:
                    stopping.update(history.steps, history.evaluations[-1].validation)
                    checkpoint.save(folder / CHECKPOINT, run, parts)
                    if stopping.is_over:
                        break
        checkpoint.save(folder / CHECKPOINT, run, parts)
    if history.evaluations[-1].step != history.steps:  # after saving: a longer run would not have looked here
        history.evaluations.append(evaluation(learner, run, monitored, history.steps))
    if run.stop_after is not None and stopping.best_step is not None:
        stopping.restore()
    distance = getattr(learner.loss, "distance_measure", "")
    result = Result(baselines, metrics_of(learner, run), history, distance)

    (folder / METRICS).write_text(json.dumps(summary(result), indent=2))
    title = f"{run.loss['name']} on {run.task.name}"
    draw_losses(history, title, unit_of(learner.loss), folder / "loss.png")
    if history.evaluations[-1].readings:
        draw_readings(history, title, distance, folder / "readings.png")
    with fixed_randomness(run.seed):
        run.task.draw(learner.network, folder / run.task.picture)
    return result


def steps_of(
    name: str,
    run: Run,
    learner: Learner,
    optimiser: Optimizer,
    history: History,
    batches: Batches,
    monitored: Sequence[Batches],
) -> Iterator[None]:
    """Train to the end of the run, keep its history, and pause after every step.

    Raises:
        DivergedError: the loss is no longer a number.
    """
    if not history.evaluations:
        history.evaluations.append(evaluation(learner, run, monitored, 0))
    for step in range(history.steps, run.steps):
        started = time.perf_counter()
        loss = trained_on(batches(run.seed, step), learner, optimiser)
        if not math.isfinite(loss):
            raise DivergedError(
                f"{name}: the loss became {loss} in step {step + 1}; try a smaller optimiser.learning_rate"
            )
        history.training.append(loss)
        if history.steps % run.validate_every == 0:
            history.evaluations.append(evaluation(learner, run, monitored, history.steps))
        history.seconds += time.perf_counter() - started
        yield


def trained_on(batch: Batch, learner: Learner, optimiser: Optimizer) -> float:
    """Make one step of training and return the loss before it."""
    learner.train()
    loss = learner(*batch)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


@torch.no_grad()
def evaluation(learner: Learner, run: Run, monitored: Sequence[Batches], step: int) -> Evaluation:
    """Return loss and readings on training and on validation data, on as many batches of the same make, as the network
    is used."""
    learner.eval()
    with fixed_randomness(run.seed):
        seen = [
            [learner.seen(*batches(run.seed, index)) for index in range(run.validation_batches)]
            for batches in monitored
        ]
    training, validation = ({name: fmean(each[name] for each in part) for name in part[0]} for part in seen)
    loss = training.pop("loss"), validation.pop("loss")
    return Evaluation(step, *loss, {name: Reading(training[name], validation[name]) for name in training})


def metrics_of(learner: Learner, run: Run) -> Metrics:
    with fixed_randomness(run.seed):
        return run.task.metrics(learner.network)


@contextmanager
def fixed_randomness(seed: int) -> Iterator[None]:
    """Draw the same random numbers every time, and none from the run's own: looking at a network must not change its
    training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def last_loss(history: History) -> str:
    """Return the loss of the last step as a progress bar shows it."""
    return f"{history.training[-1]:.4f}" if history.training else "-"


def unit_of(loss: losses.Loss) -> str:
    """Return what the documentation of a loss says about its units, without markup.

    >>> unit_of(losses.create("huber"))
    'delta is in the unit of the target; the loss is in its square.'
    """
    text = inspect.getdoc(type(loss)) or ""
    section = re.search(r"^Units:\n((?: +.*\n)+)", text, re.MULTILINE)
    return " ".join(section[1].replace("`", "").split()) if section else ""


def summary(result: Result) -> dict[str, object]:
    """Return what ``metrics.json`` holds."""
    last = result.history.evaluations[-1]
    return {
        "metrics": result.metrics,
        "baselines": result.baselines,
        "loss": {"training": last.training, "validation": last.validation, "gap": last.gap, "ratio": last.ratio},
        "verdict": str(result.history.verdict),
        "readings": {name: reading._asdict() for name, reading in last.readings.items()},
        "steps": last.step,
        "seconds": round(result.history.seconds, 2),
    }


def show(runs: Mapping[str, Run], results: Mapping[str, Result], output: Path) -> None:
    """Print one table of all results."""
    task = next(iter(runs.values())).task
    baselines = next(iter(results.values())).baselines  # the same for all: only the loss differs
    trained = {
        name: {**result.metrics, RATIO: result.history.evaluations[-1].ratio, "seconds": result.history.seconds}
        for name, result in results.items()
    }
    console = Console()
    widened(console, sheet := table(task.question, task.better, baselines, trained)).print(sheet)
    readings = {
        name: MeasuredReadings(result.history.evaluations[-1].readings, result.distance)
        for name, result in results.items()
    }
    for line in readings_lines(readings):
        console.print(line, highlight=False, soft_wrap=True)
    for name, result in results.items():
        console.print(f"{name}: {result.history.verdict}", highlight=False)
    for line in collapse_warnings(readings):
        console.print(line, style="yellow")
    console.print(
        f"Pictures, metrics and checkpoints: {', '.join(str(output / name) for name in results)}", soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
