"""Gradient caching: a whole batch in the memory of a chunk. Is the gradient equal, and what does it cost?

A convolutional encoder of images of 28 x 28 pixels and the supervised contrastive loss: forward and backward of the
whole batch, of the batch in chunks, and of the batch in chunks by ``torch.utils.checkpoint``. The memory is the peak of
a fresh process beyond what it held when the batch was ready, the time is taken in turns.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import losses
from benchmarks.harness import memory
from benchmarks.harness.command_line import at_least_one
from benchmarks.harness.environment import summary
from benchmarks.harness.timing import ratio, timed
from losses.distributed import GradientCaching

BATCH, CHUNK, SIDE = 4096, 256, 28
EQUAL = 1e-10  # by what part of the largest entry gradients may differ in float64
MOST_IN_DOUBLE = 1024  # samples of a batch in float64, which takes twice the memory


class Encoder(nn.Module):
    """Embeddings of images; each sample is embedded by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 64)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.features(images), dim=1)


class Checkpointed(nn.Module):
    """The encoder in chunks by what torch has: the graph of a chunk is made again when it is needed."""

    def __init__(self, encoder: nn.Module, chunk_size: int) -> None:
        super().__init__()
        self.encoder, self.chunk_size = encoder, chunk_size

    def forward(self, images: Tensor) -> Tensor:
        chunks = images.split(self.chunk_size)
        return torch.cat([checkpoint(self.encoder, chunk, use_reentrant=False) for chunk in chunks])


WAYS: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "whole batch": lambda encoder, size: encoder,
    "GradientCaching": lambda encoder, size: GradientCaching(encoder, chunk_size=size),
    "torch.utils.checkpoint": Checkpointed,
}


def step_of(way: str, batch: int, chunk: int, dtype: torch.dtype = torch.float32) -> Callable[[], list[Tensor]]:
    """Return a step, forward and backward, that returns the gradients; the weights are the same for all ways."""
    torch.manual_seed(0)
    images, labels = torch.rand(batch, 1, SIDE, SIDE).to(dtype), torch.arange(batch) // 4
    encoder = Encoder().to(dtype)
    called, loss = WAYS[way](encoder, chunk), losses.create("supervised_contrastive")

    def step() -> list[Tensor]:
        encoder.zero_grad()
        loss(called(images), labels).backward()
        return [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]

    return step


def warmed(way: str, batch: int, chunk: int) -> Callable[[], list[Tensor]]:
    """Return a step that was made before on a small batch."""
    step_of(way, 2 * chunk, chunk)()
    return step_of(way, batch, chunk)


def differences(batch: int, chunk: int, dtype: torch.dtype) -> dict[str, float]:
    """Return by what part of its largest entry the gradient of every way differs from that of the whole batch."""
    gradients = {way: step_of(way, batch, chunk, dtype)() for way in WAYS}
    return {
        way: max(
            float((mine - right).abs().max() / right.abs().max())
            for mine, right in zip(found, gradients["whole batch"], strict=True)
        )
        for way, found in gradients.items()
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--batch", type=at_least_one, default=BATCH, help=f"samples (default: {BATCH})")
    parser.add_argument("--chunk", type=at_least_one, default=CHUNK, help=f"samples at once (default: {CHUNK})")
    parser.add_argument("--quick", action="store_true", help="a batch of 256 in chunks of 32: is it equal?")


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all gradients are equal."""
    batch, chunk = (256, 32) if arguments.quick else (arguments.batch, arguments.chunk)
    steps = {way: step_of(way, batch, chunk) for way in WAYS}
    apart = differences(batch, chunk, torch.float32)
    exactly = differences(min(batch, MOST_IN_DOUBLE), chunk, torch.float64)
    peaks = {way: memory.fresh(warmed, way, batch, chunk).extra for way in WAYS}
    seconds = timed(steps, budget=1.0 if arguments.quick else 60.0, quick=arguments.quick)
    ratios = {way: ratio(seconds[way], seconds["whole batch"]) for way in WAYS}
    table = Table(title=f"a batch of {batch} images, in chunks of {chunk}; {summary()}")
    for column in (
        "",
        "peak memory, MiB",
        "of the whole",
        "time, ms",
        "times the whole",
        "gradient differs by",
        "in float64",
    ):
        table.add_column(column, justify="right" if column else "left")
    for way in WAYS:
        table.add_row(
            way,
            f"{peaks[way] / memory.MEBIBYTE:.1f}",
            f"1 / {peaks['whole batch'] / max(peaks[way], 1):.1f}",
            f"{1000 * statistics.median(seconds[way]):.0f}",
            f"{ratios[way].median:.2f}",
            f"{apart[way]:.1e}",
            f"{exactly[way]:.1e}",
        )
    console.print(table)
    numbers = {
        "batch": batch,
        "chunk": chunk,
        "peak_bytes": peaks,
        "milliseconds": {way: 1000 * statistics.median(times) for way, times in seconds.items()},
        "times_the_whole": {way: found._asdict() for way, found in ratios.items()},
        "gradient_differs_by": {"float32": apart, "float64": exactly},
    }
    return numbers, all(difference <= EQUAL for difference in exactly.values())
