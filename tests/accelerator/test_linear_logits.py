"""Cross-entropy of linear logits in chunks where no CPU computes."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.ops.tiles.sizes import block_sizes
from tests.accelerator.pretended import accelerator
from tests.largest_tensor import Largest

ROWS, FEATURES, CLASSES = 24, 8, 40
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.01},
    "class weights": {"class_weight": [float(number % 3) for number in range(CLASSES)]},
    "ignored": {"ignore_index": 3},
}


def layer(bias: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, FEATURES), (CLASSES, FEATURES), (CLASSES,))[: 2 + bias]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def outcome(loss: losses.Loss, parts: list[Tensor], *rest: Tensor, **named: Any) -> tuple[Tensor, ...]:
    leaves = [part.clone().requires_grad_() for part in parts]
    value = loss(losses.LinearLogits(*leaves), *rest, **named)
    return value, *torch.autograd.grad(value, leaves)


@pytest.mark.parametrize("bias", [False, True], ids=["without bias", "with bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_give_values_and_gradients_of_float64(kind: str, bias: bool) -> None:
    loss, parts = losses.create("cross_entropy", **KINDS[kind]), layer(bias)
    target = torch.arange(ROWS) * 7 % CLASSES
    double = losses.create("cross_entropy", **KINDS[kind]).double()
    for weight in (None, torch.linspace(0, 2, ROWS)):
        expected = outcome(double, [part.double() for part in parts], target, weight=weight)
        for rows in (1, 5, ROWS):
            small = {"linear_in_chunks_on_accelerator": 0, "linear_chunk_on_accelerator": 0}
            with accelerator(), block_sizes(**small, linear_rows_on_accelerator=rows):
                got = outcome(loss, parts, target, weight=weight)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


def test_no_more_logits_are_made_at_once_than_a_chunk_has() -> None:
    loss, parts, target = losses.create("cross_entropy"), layer(bias=True), torch.arange(ROWS)
    small = {"linear_in_chunks_on_accelerator": 0, "linear_chunk_on_accelerator": 0, "linear_rows_on_accelerator": 9}
    with accelerator(), block_sizes(**small):
        outcome(loss, parts, target)
        with Largest() as largest:
            outcome(loss, parts, target)
    assert largest.elements == 9 * CLASSES
    with accelerator(), Largest() as largest:  # as few as these are made by the two lines
        outcome(loss, parts, target)
    assert largest.elements == ROWS * CLASSES
