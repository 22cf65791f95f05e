"""What a call costs on a batch so small that nothing but the call counts: checks, averaging, dispatch.

Limit: 1.3 times torch.nn, forward and backward, on 8 elements.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import losses
from benchmarks.measure import Ratio, compare

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
        steps = [step(loss, output, target) for loss in (ours, peer)]
        (value, gradient), (expected, expected_gradient) = (result() for result in steps)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, expected_gradient)
        results[name] = compare(*steps)
    return results


def step(loss: nn.Module, output: Tensor, target: Tensor):
    """Return a function that runs the loss forward and backward."""

    def forward_backward() -> tuple[Tensor, Tensor | None]:
        output.grad = None
        value = loss(output, target)
        value.backward()
        return value.detach(), output.grad

    return forward_backward
