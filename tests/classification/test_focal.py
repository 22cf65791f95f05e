"""What is peculiar to the focal loss: its limit, slopes of powers below 1, and the two forms."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses import ConfigError
from losses.ops.tiles.sizes import block_sizes
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CLASSES = {"form": "multiclass"}


def test_gamma_of_zero_is_binary_cross_entropy() -> None:
    logits, target = torch.randn(30, dtype=torch.float64), torch.rand(30, dtype=torch.float64)
    value, gradient = backward(losses.create("focal", gamma=0), logits, target)
    expected, slope = backward(losses.create("bce"), logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-16)


def test_gamma_of_zero_is_cross_entropy() -> None:
    logits, target = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 4
    for other in (target, F.one_hot(target, 4).double(), target.where(target != 2, -100)):
        value, gradient = backward(losses.create("focal", **CLASSES, gamma=0), logits, other)
        expected, slope = backward(losses.create("ce"), logits, other)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-16)


def test_two_classes_are_the_binary_form_of_the_difference() -> None:
    logits, target = torch.randn(30, 2, dtype=torch.float64), torch.arange(30) % 2
    expected = losses.create("focal", alpha=0.25)(logits[:, 1] - logits[:, 0], target)
    value = losses.create("focal", **CLASSES, alpha=[0.75, 0.25])(logits, target)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("form", ["binary", "multiclass"])
@pytest.mark.parametrize("gamma", [1e-6, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_the_answer_is_certain_the_slope_of_any_power_is_finite(
    form: str, gamma: float, dtype: torch.dtype
) -> None:
    """1 - p is 0 there, and the derivative of its power below 1 infinite."""
    logits = torch.tensor([40.0, -40.0, 800.0, 1e4, -1e4], dtype=dtype)
    target = torch.tensor([1, 0, 1, 1, 0])
    if form == "multiclass":
        logits = torch.stack([torch.zeros_like(logits), logits], 1)
    for reduction in ("mean", "none"):
        value, gradient = backward(losses.create("focal", form=form, gamma=gamma, reduction=reduction), logits, target)
        assert value.abs().max() < 1e-6
        assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("parameters", [{}, {"alpha": 0.25}, {"gamma": 0.5}, CLASSES], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(parameters: dict[str, Any], reduction: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype=dtype)
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    hard = torch.tensor([1, 0]) if "form" in parameters else torch.tensor([[0, 1, 1], [1, 0, 0]])
    for target in (soft, hard):
        backward(losses.create("focal", **parameters, reduction=reduction), logits, target)


def test_a_wrong_answer_of_ten_thousand_costs_its_logit_and_a_right_one_nothing() -> None:
    value, gradient = backward(
        losses.create("focal", reduction="none"), torch.tensor([1e4, -1e4, 1e4]), torch.tensor([0, 1, 1])
    )
    assert value.tolist() == [1e4, 1e4, 0]
    assert gradient.tolist() == [1, -1, 0]


def test_what_is_almost_certain_keeps_its_digits() -> None:
    """With 1 - p = e^-30 the loss is e^-30 cubed."""
    for form, logits in (("binary", [30.0]), ("multiclass", [[0.0, 30.0]])):
        value = losses.create("focal", form=form)(torch.tensor(logits, dtype=torch.float64), torch.tensor([1]))
        assert value.item() == pytest.approx(math.exp(-90), rel=1e-9)


def test_minus_infinity_forbids_a_class_without_nan() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    for target in (torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])):
        value, gradient = backward(losses.create("focal", **CLASSES, gamma=1), logits, target)
        assert value == pytest.approx(math.log(2) / 2)
        assert gradient[0, 1] == 0


@pytest.mark.parametrize("shape", [(0,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_is_zero_with_a_graph(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    value, gradient = backward(losses.create("focal"), torch.zeros(shape, dtype=dtype), torch.zeros(shape))
    assert value == 0
    assert gradient.shape == shape


@pytest.mark.parametrize("shape", [(4,), (4, 2, 2), (0,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_counted_is_zero_with_zero_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits = torch.randn(shape[0], 3, *shape[1:]).to(dtype)
    value, gradient = backward(losses.create("focal", **CLASSES), logits, torch.full(shape, -100))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_in_logits_and_target(reduction: str) -> None:
    logits, target = torch.tensor([0.0, torch.nan, 0.0]), torch.tensor([1.0, torch.nan, 0.0])
    loss = losses.create("focal", gamma=1, reduction=reduction)
    value, gradient = backward(loss, logits, target, weight=torch.tensor([2.0, 0.0, 1.0]))
    half = math.log(2) / 2
    expected = {"mean": half, "sum": 3 * half, "none": [2 * half, 0, half]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert gradient[1] == 0


def test_alpha_does_not_count_in_the_mean() -> None:
    logits, target = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    items = losses.create("focal", **CLASSES, reduction="none")(logits, target)
    alpha = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    value = losses.create("focal", **CLASSES, alpha=alpha)(logits, target)
    torch.testing.assert_close(value, (items * alpha[target]).sum() / 6)


numbers = st.floats(-50, 50)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    logits=st.lists(numbers, min_size=2, max_size=30),
    gamma=st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.5]),
    alpha=st.sampled_from([None, 0.0, 0.25, 1.0]),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
)
def test_blocks_are_the_definition(
    logits: list[float], gamma: float, alpha: float | None, seed: int, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = torch.tensor(logits, dtype=torch.float64)
    target = torch.rand(len(logits), generator=generator, dtype=torch.float64)
    target = target.round() if seed % 2 else target
    options = {"weight": torch.arange(len(logits)) % 3} if weighted else {}
    loss = losses.create("focal", gamma=gamma, alpha=alpha)
    expected, slope = backward(loss, output, target, **options)
    with block_sizes(in_blocks_long=0, block=4):
        value, gradient = backward(loss, output, target, **options)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 12),
    classes=st.sampled_from([1, 2, 5, 20]),
    gamma=st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.5]),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.1, 1.0, 30.0, 1000.0]),
    weighted=st.booleans(),
)
def test_blocks_of_rows_are_the_definition(
    size: int, classes: int, gamma: float, seed: int, spread: float, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (size,), generator=generator)
    target[1:] = target[1:].where(torch.rand(size - 1, generator=generator) > 0.3, -100)
    alpha = torch.rand(classes, generator=generator) if seed % 2 else None
    options = {"weight": torch.arange(size) % 3 + 0.5} if weighted else {}
    loss = losses.create("focal", **CLASSES, gamma=gamma, alpha=alpha)
    expected, slope = backward(loss, logits, target, **options)
    with block_sizes(rows_in_blocks=0, row_elements=4):
        value, gradient = backward(loss, logits, target, **options)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"alpha": [0.5, 0.5]}, ["alpha: got", "a number", "form='binary'"]),
        ({"alpha": 0.5, "form": "multiclass"}, ["alpha: got 0.5", "a list with one number per class", "multiclass"]),
        ({"alpha": 1.5}, ["alpha: got 1.5", "from 0 to 1"]),
        ({"form": "multilabel"}, ["form: got 'multilabel'", "'binary' or 'multiclass'"]),
        ({"gamma": -1}, ["gamma: got -1"]),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, Any], words: list[str]) -> None:
    with refused(words, ConfigError):
        losses.create("focal", **parameters)


@pytest.mark.parametrize(
    ("parameters", "logits", "target", "words"),
    [
        ({}, torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), ["(4, 3)", "(4,)"]),
        ({}, torch.randn(4), torch.tensor([0, 1, -1, 1]), ["[0, 1]", "-1", "target > 0"]),
        (CLASSES, torch.randn(4), torch.tensor([0, 1, 1, 1]), ["(N, C, ...)", "logits.unsqueeze(0)"]),
        (CLASSES, torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), ["class 3", "3 classes", "ignore_index=-100"]),
        ({**CLASSES, "alpha": [1, 2]}, torch.randn(2, 3), torch.tensor([0, 1]), ["alpha holds 2", "3 classes"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    parameters: dict[str, Any], logits: Any, target: Any, words: list[str]
) -> None:
    with refused(words):
        losses.create("focal", **parameters)(logits, target)
