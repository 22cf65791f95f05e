"""Train on several processes, each with a part of the batch, and see what a loss makes of the parts.

.venv/bin/torchrun --nproc-per-node 2 examples/distributed.py                         two processes of this machine
.venv/bin/accelerate launch --multi_gpu --num_processes 2 examples/distributed.py     the same, on CPUs too
.venv/bin/torchrun --nproc-per-node 2 examples/distributed.py --seeds 10 --steps 600  more of it
.venv/bin/python examples/distributed.py                                              one process

The same run in three ways: by one process that holds the whole batch, by all of them with GlobalBatch, and by all of
them with the loss alone, which then compares samples within a process only. All three begin with the same network, go
through the same samples in the same order, and make as many steps; in double precision, since in single precision the
rounding of a sum that is made in another order grows over hundreds of steps, and hides which ways are the same.

It writes to runs/distributed, and never over what is there unless told so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
import torch.distributed as dist
import yaml
from report import ARROWS, cell, progress, widened
from rich.console import Console
from rich.table import Table
from run_config import Run, planned
from run_folder import CONFIG, METRICS, clear, require_free
from tasks.task import Better, Metrics
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector

import losses
from losses import ConfigError
from losses.distributed import GlobalBatch

SETTING = (
    # without batch normalisation, which would be one of each process alone, and another difference
    "network={name: mlp, hidden: [256], dimension: 64}",
    "loss=info_nce",
    "batch_size=32",  # of all processes together
    "steps=300",
)
"""What differs from the run ``glyphs``."""
QUICK = ("steps=4", "task.verify_on=[hebrew]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train in all ways, show one table on the first process, and return the exit status."""
    options = parsed(arguments)
    torch.set_num_threads(1)  # small steps: a second thread costs more than it brings
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    folder = options.output / "distributed"
    try:
        run = configured(options)
        if not options.overwrite:
            require_free([folder], resumable=False)
    except ConfigError as error:
        if rank == 0:
            print(error, file=sys.stderr)
        return 2
    seeds = range(run.seed, run.seed + options.seeds)
    results: dict[str, list[Trained]] = {}
    with progress(shown=rank == 0) as bar:
        for way in ways(run, rank, ranks):
            shown = bar.add_task(way.name, total=run.steps * len(seeds), loss="-")
            after_step = partial(bar.update, shown, advance=1)
            results[way.name] = [trained(run, seed, way, after_step) for seed in seeds]
    if rank == 0:
        save(run, seeds, results, folder)
        show(run, results, folder)
    if ranks > 1:
        dist.destroy_process_group()
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of every training (default: 300)")
    parser.add_argument("--seeds", type=int, default=5, help="how often everything is repeated (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the run; repeatable"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder already")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder that gets a folder (default: runs)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds: got {options.seeds}, expected at least 1")
    return options


def configured(options: argparse.Namespace) -> Run:
    """Return the run that the command line asks for."""
    steps = () if options.steps is None else (f"steps={options.steps}",)
    changes = [*SETTING, *(QUICK if options.quick else ()), *steps, *options.set]
    (run,) = planned("glyphs", changes=changes).values()
    return run


class Way(NamedTuple):
    """How a batch is trained on: which loss sees which rows of it on this process."""

    name: str
    loss: nn.Module
    rows: slice


def ways(run: Run, rank: int, ranks: int) -> Iterator[Way]:
    """Yield the way of one process, which every process goes for itself, and once they have met the ways of all."""
    loss, size = losses.create(run.loss), run.batch_size
    yield Way(f"1 process, all {size} samples", loss, slice(0, size))
    if ranks == 1:
        return
    dist.init_process_group("gloo")  # after what launched the processes: torchrun, accelerate launch, ...
    own = slice(rank * size // ranks, (rank + 1) * size // ranks)
    yield Way(f"{ranks} processes, {GLOBAL}", GlobalBatch(loss), own)
    warnings.filterwarnings("ignore", ".* compares the samples of rank")  # that is what is shown here
    yield Way(f"{ranks} processes, {ALONE}", loss, own)


GLOBAL, ALONE = "GlobalBatch", "loss alone"


class Trained(NamedTuple):
    """What came of a training."""

    metrics: Metrics
    parameters: Tensor


def trained(run: Run, seed: int, way: Way, after_step: Callable[..., None]) -> Trained:
    """Train a new network in one of the ways, and tell the loss of every step."""
    torch.manual_seed(seed)
    network = run.network.build(run.kind.returns, run.task.shape, run.task.outputs, way.loss).double()
    model = DistributedDataParallel(network) if dist.is_initialized() else network
    optimiser = run.optimiser.build(network.parameters())
    batches = run.task.batches("training", run.kind, run.batch_size)
    for step in range(run.steps):
        inputs, target = batches(seed, step)
        output = model(*(part[way.rows].double() for part in inputs))
        loss = way.loss(output, None if target is None else target[way.rows])
        optimiser.zero_grad()
        loss.backward()  # in here DistributedDataParallel averages the gradient over processes
        optimiser.step()
        after_step(loss=f"{loss.item():.4f}")
    parameters = parameters_to_vector(network.parameters()).detach()
    return Trained(run.task.metrics(network.float()), parameters)


def apart(first: Sequence[Trained], second: Sequence[Trained]) -> float:
    """Return the largest difference of a parameter between trainings of the same seeds."""
    return max(float((one.parameters - other.parameters).abs().max()) for one, other in zip(first, second, strict=True))


def gains(better: Better, results: Mapping[str, Sequence[Trained]]) -> dict[str, list[float]]:
    """Return by how much every metric is better with GlobalBatch than with the loss alone, seed by seed."""
    _, together, alone = results.values()
    return {
        metric: [
            (one.metrics[metric] - other.metrics[metric]) * (1 if way == "higher" else -1)
            for one, other in zip(together, alone, strict=True)
        ]
        for metric, way in better.items()
    }


def save(run: Run, seeds: Sequence[int], results: Mapping[str, Sequence[Trained]], folder: Path) -> None:
    """Leave the resolved run, and the metrics of every way and seed, in a folder."""
    clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(run.values(), sort_keys=False))
    one, *_ = results.values()
    summary = {
        "seeds": [*seeds],
        "steps": run.steps,
        "baselines": run.task.references(),
        "ways": {
            name: {"metrics": [each.metrics for each in found], "apart": apart(found, one)}
            for name, found in results.items()
        },
    }
    (folder / METRICS).write_text(json.dumps(summary, indent=2))


def show(run: Run, results: Mapping[str, Sequence[Trained]], folder: Path) -> None:
    """Print one table of all ways, and what GlobalBatch brings."""
    console, better = Console(), run.task.better
    count = len(next(iter(results.values())))
    sheet = table(run, results)
    widened(console, sheet).print(sheet)
    console.print(
        f"{run.loss['name']}, {run.steps} steps on the same samples; mean and standard deviation of seeds: {count}",
        highlight=False,
        soft_wrap=True,
    )
    if len(results) == 1:
        console.print(
            "One process has nothing to compare; torchrun --nproc-per-node 2 examples/distributed.py starts two",
            style="yellow",
            soft_wrap=True,
        )
    else:
        console.print(f"What {GLOBAL} brings over the {ALONE}, seed by seed:", highlight=False)
        for metric, found in gains(better, results).items():
            ahead = sum(gain > 0 for gain in found)
            console.print(f"  {metric}: {mean_and_deviation(found)}, better in {ahead} of {count}", highlight=False)
    console.print(f"Configuration and metrics: {folder}", soft_wrap=True)


def table(run: Run, results: Mapping[str, Sequence[Trained]]) -> Table:
    """Return a table of the metrics of every way, and how far its parameters are from those of one process."""
    sheet = Table(title=run.task.question)
    sheet.add_column(no_wrap=True)
    for metric, way in run.task.better.items():
        sheet.add_column(f"{metric}\n{ARROWS[way]}", justify="right", no_wrap=True)
    sheet.add_column("largest difference\nof a parameter", justify="right", no_wrap=True)
    for name, metrics in run.task.references().items():
        sheet.add_row(name, *(cell(metrics[metric], best=False) for metric in run.task.better), "", style="dim")
    sheet.add_section()
    one, *_ = results.values()
    for name, found in results.items():
        cells = [mean_and_deviation([each.metrics[metric] for each in found]) for metric in run.task.better]
        sheet.add_row(name, *cells, "" if found is one else f"{apart(found, one):.1e}")
    return sheet


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return mean and standard deviation as text.

    >>> mean_and_deviation([0.25, 0.75])
    '0.5000 ± 0.3536'
    """
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
