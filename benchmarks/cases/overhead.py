"""What a call costs on a batch so small that nothing but the call counts: checks, averaging, dispatch.

Limit: 1.3 times torch.nn, forward and backward, on 8 elements.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import losses
from benchmarks.harness.environment import summary
from benchmarks.harness.equality import step
from benchmarks.harness.tables import verdict
from benchmarks.harness.timing import Ratio, compare

LIMIT = 1.3


def cases() -> dict[str, tuple[nn.Module, nn.Module, Tensor, Tensor]]:
    """Return each case: our loss, its peer, and a batch of 8."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 8, generator=generator)
    logits, labels = torch.randn(8, 5, generator=generator), torch.randint(5, (8,), generator=generator)
    return {
        "mse": (losses.create("mse"), nn.MSELoss(), numbers[0], numbers[1]),
        "mae": (losses.create("mae"), nn.L1Loss(), numbers[0], numbers[1]),
        "huber": (losses.create("huber"), nn.HuberLoss(), numbers[0], numbers[1]),
        "binary_cross_entropy": (losses.create("bce"), nn.BCEWithLogitsLoss(), numbers[0], numbers[2].sigmoid()),
        "cross_entropy": (losses.create("ce"), nn.CrossEntropyLoss(), logits, labels),
    }


def run() -> dict[str, Ratio]:
    """Return the ratio of every case, after checking that values and gradients are equal."""
    results = {}
    for name, (ours, peer, output, target) in cases().items():
        output = output.requires_grad_()
        steps = [step(loss, (output,), target) for loss in (ours, peer)]
        (value, gradients), (expected, expected_gradients) = (result() for result in steps)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradients, expected_gradients)
        results[name] = compare(*steps)
    return results


def options(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all went well."""
    results = run()
    table = Table(title=f"overhead: forward and backward, {summary()}")
    for column in ("loss", "losses, us", "torch.nn, us", "ratio", f"limit {LIMIT}"):
        table.add_column(column, justify="left" if column == "loss" else "right")
    for name, result in results.items():
        kept = verdict(result.ratio <= LIMIT)
        table.add_row(name, f"{result.ours:.1f}", f"{result.peer:.1f}", f"{result.ratio:.2f}", kept)
    console.print(table)
    return {"limit": LIMIT, "rows": {name: result._asdict() for name, result in results.items()}}, True
