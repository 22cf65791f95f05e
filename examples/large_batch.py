"""Train with batches whose graph would not fit into memory: gradient caching, on letters of the default run.

.venv/bin/python examples/large_batch.py                               batches of 4,096 images, 256 at once
.venv/bin/python examples/large_batch.py --batch 2048 --chunk 128      others
.venv/bin/python examples/large_batch.py --chunk 0                     each batch at once, to compare memory and time
.venv/bin/torchrun --nproc-per-node 2 examples/large_batch.py          the same batches over two processes

Two lines make the difference: the encoder goes into GradientCaching, and with several processes the loss goes into
GlobalBatch. `accelerate launch` starts the processes as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from batches import shuffled
from report import progress
from rich.console import Console
from rich.table import Table
from tasks.glyphs import GlyphVerification, compared
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import losses
from losses import ConfigError, InputError
from losses.distributed import GlobalBatch, GradientCaching


class Embedder(nn.Module):
    """Embeddings on the unit sphere. Nothing in it looks at other samples, as batch normalisation would."""

    def __init__(self, side: int, dimension: int = 64) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, dimension)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.features(images), dim=1)

    embed = forward


class Trained(NamedTuple):
    """What came of a training, and what it took."""

    metrics: dict[str, float]
    losses: list[float]
    milliseconds: float
    mebibytes: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says, and return the exit status."""
    options = parsed(arguments)
    torch.set_num_threads(1)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if several:
        dist.init_process_group("gloo")
    try:
        trained = train(options)
        if rank() == 0:
            show(options, trained)
    except (ConfigError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if several:
            dist.destroy_process_group()
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096, help="images in a batch, of all processes (default: 4096)")
    parser.add_argument("--chunk", type=int, default=256, help="images at once; 0 is all of them (default: 256)")
    parser.add_argument("--steps", type=int, default=20, help="steps of training (default: 20)")
    parser.add_argument("--loss", default="supervised_contrastive", help="name of a loss of labelled embeddings")
    return parser.parse_args(arguments)


def train(options: argparse.Namespace) -> Trained:
    """Train from the same weights on the same batches, whatever the chunks and processes are."""
    torch.manual_seed(0)
    task = GlyphVerification(name="glyphs")
    letters = task.parts["training"]
    batches = shuffled(letters.images, letters.labels, options.batch)
    encoder = Embedder(letters.images.shape[-1])
    called: nn.Module = GradientCaching(encoder, chunk_size=options.chunk) if options.chunk else encoder
    if processes() > 1:
        called = DistributedDataParallel(called)
    loss = GlobalBatch(losses.create(options.loss))  # in one process it is the loss
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    before, seconds, seen = peak(), [], list[float]()
    with progress() as bar:
        bar.disable = rank() > 0
        shown = bar.add_task("large batch", total=options.steps, loss="-")
        for step in range(options.steps):
            (images,), labels = batches(0, step)
            own = slice(rank(), None, processes())  # the images of this process
            started = time.perf_counter()
            value = loss(called(images[own]), labels[own])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            seconds.append(time.perf_counter() - started)
            seen.append(value.item())
            bar.update(shown, completed=step + 1, loss=f"{seen[-1]:.4f}")
    grown = peak() - before
    metrics = compared(encoder.eval().embed(task.unseen.images), task.unseen.labels) if rank() == 0 else {}
    return Trained(metrics, seen, 1000 * statistics.median(seconds), grown)


def show(options: argparse.Namespace, trained: Trained) -> None:
    """Print what came of it."""
    chunks = f"in chunks of {options.chunk}" if options.chunk else "at once"
    table = Table(title=f"{options.steps} batches of {options.batch} letters, {chunks}, {processes()} process(es)")
    for name in ("first loss", "last loss", *trained.metrics, "ms", "MiB"):
        table.add_column(name, justify="right")
    numbers = [trained.losses[0], trained.losses[-1], *trained.metrics.values()]
    table.add_row(*(f"{number:.4f}" for number in numbers), f"{trained.milliseconds:.0f}", f"{trained.mebibytes:.0f}")
    Console().print(table)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def peak() -> float:
    """Return the most memory that this process has had so far, in MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    sys.exit(main())
