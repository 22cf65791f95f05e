"""What is peculiar to generalized cross-entropy: its two ends, digits near certainty, and how little absurd labels
pull."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses.ops.tiles.sizes import block_sizes
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def test_a_small_q_is_close_to_cross_entropy_and_closer_the_smaller() -> None:
    logits, target = torch.randn(20, 5, dtype=torch.float64), torch.arange(20) % 5
    expected, slope = backward(losses.create("ce"), logits, target)
    for q in (1e-3, 1e-6, 1e-9, 1e-15, 1e-300):
        value, gradient = backward(losses.create("gce", q=q), logits, target)
        torch.testing.assert_close(value, expected, rtol=20 * q + 1e-14, atol=0)
        torch.testing.assert_close(gradient, slope, rtol=20 * q + 1e-12, atol=1e-15)


def test_q_of_one_is_one_minus_the_probability() -> None:
    logits, target = torch.randn(20, 5, dtype=torch.float64), torch.arange(20) % 5
    items = losses.create("gce", q=1, reduction="none")(logits, target)
    torch.testing.assert_close(items, 1 - logits.softmax(1)[range(20), target])


def test_the_gradient_is_that_of_cross_entropy_times_the_probability_to_the_q() -> None:
    logits, target = torch.randn(20, 5, dtype=torch.float64), torch.arange(20) % 5
    _, gradient = backward(losses.create("gce", q=0.3, reduction="sum"), logits, target)
    _, of_cross_entropy = backward(losses.create("ce", reduction="sum"), logits, target)
    factor = logits.softmax(1).gather(1, target.unsqueeze(1)) ** 0.3
    torch.testing.assert_close(gradient, factor * of_cross_entropy)


@pytest.mark.parametrize("q", [1e-3, 0.5, 0.7, 1.0])
def test_what_is_almost_certain_keeps_its_digits(q: float) -> None:
    """The probability of a wrong class is 1e-12: 1 - p^q would have lost four digits of it."""
    far = math.log(1e-12)
    logits = torch.tensor([[0.0, far]], dtype=torch.float64)
    value = losses.create("gce", q=q)(logits, torch.tensor([0]))
    torch.testing.assert_close(value, F.cross_entropy(logits, torch.tensor([0])), rtol=1e-9, atol=0)


@pytest.mark.parametrize("q", [0.0, 1e-3, 0.7, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(q: float, reduction: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4]], dtype=dtype)
    for target in (torch.tensor([0, 1, 2]), torch.tensor([1, 0, 0])):
        backward(losses.create("gce", q=q, reduction=reduction), logits, target)


def test_an_absurd_label_costs_one_over_q_and_pulls_nothing() -> None:
    value, gradient = backward(losses.create("gce", q=0.5), torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert value == 2
    assert not gradient.any()


@pytest.mark.parametrize("shape", [(4,), (4, 2, 2), (0,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_counted_is_zero_with_zero_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits = torch.randn(shape[0], 3, *shape[1:]).to(dtype)
    value, gradient = backward(losses.create("gce"), logits, torch.full(shape, -100))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_and_classes_that_do_not_exist(reduction: str) -> None:
    logits, target = torch.zeros(3, 4), torch.tensor([1, 77, 3])
    logits[1] = torch.nan
    loss = losses.create("gce", q=0.5, reduction=reduction)
    value, gradient = backward(loss, logits, target, weight=torch.tensor([1.0, 0.0, 3.0]))
    assert value.tolist() == {"mean": 1, "sum": 4, "none": [1, 0, 3]}[reduction]  # (1 - sqrt(1 / 4)) / 0.5 each
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("logits", "target", "words"),
    [
        (torch.randn(4, 3), torch.rand(4, 3), ["class indices", "not probabilities", "target.argmax(1)"]),
        (torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), ["class 3", "3 classes", "0 to 2", "ignore_index=-100"]),
        (torch.randn(4), torch.tensor([0, 1, 2, 3]), ["(N, C, ...)", "logits.unsqueeze(0)"]),
        (torch.randn(4, 3).softmax(1), torch.tensor([0, 1, 2, 0]), ["look like probabilities", "remove the softmax"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(logits: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("gce")(logits, target)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 12),
    classes=st.sampled_from([1, 2, 5, 20]),
    q=st.sampled_from([0.0, 1e-3, 0.7, 1.0]),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.1, 1.0, 30.0, 1000.0]),
    weighted=st.booleans(),
)
def test_blocks_of_rows_are_the_definition(
    size: int, classes: int, q: float, seed: int, spread: float, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (size,), generator=generator)
    target[1:] = target[1:].where(torch.rand(size - 1, generator=generator) > 0.3, -100)
    options = {"weight": torch.arange(size) % 3 + 0.5} if weighted else {}
    loss = losses.create("gce", q=q)
    expected, slope = backward(loss, logits, target, **options)
    with block_sizes(rows_in_blocks=0, row_elements=4):
        value, gradient = backward(loss, logits, target, **options)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-12)
