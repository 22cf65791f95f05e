"""What is peculiar to binary cross-entropy: sure answers, targets of many kinds, weights of positives."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from losses import InputError, Triplets
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    "parameters", [{}, {"label_smoothing": 0.1}, {"positive_weight": 3.0}, {"positive_weight": [1, 0, 2]}], ids=str
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(parameters: dict[str, Any], reduction: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype=dtype)
    for target in (torch.zeros(2, 3), torch.ones(2, 3), torch.full((2, 3), 0.5)):
        backward(losses.create("bce", **parameters, reduction=reduction), logits, target)


def test_a_wrong_answer_of_ten_thousand_costs_its_logit() -> None:
    value, gradient = backward(
        losses.create("bce", reduction="none"), torch.tensor([1e4, -1e4, 1e4]), torch.tensor([0, 1, 1])
    )
    assert value.tolist() == [1e4, 1e4, 0]
    assert gradient.tolist() == [1, -1, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("parameters", [{}, {"positive_weight": 2.0}], ids=str)
def test_an_empty_batch_is_zero_with_a_graph(parameters: dict[str, Any], dtype: torch.dtype) -> None:
    value, gradient = backward(losses.create("bce", **parameters), torch.zeros(0, 3, dtype=dtype), torch.zeros(0, 3))
    assert value == 0
    assert gradient.shape == (0, 3)


@pytest.mark.parametrize(
    "target", [torch.tensor([True, False]), torch.tensor([1, 0]), torch.tensor([1, 0], dtype=torch.uint8)], ids=str
)
def test_booleans_and_integers_are_probabilities(target: Tensor) -> None:
    value, _ = backward(losses.create("bce"), torch.tensor([0.0, 0.0]), target)
    assert value == pytest.approx(math.log(2))


@pytest.mark.parametrize("parameters", [{}, {"positive_weight": 2.0}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_in_logits_and_target(parameters: dict[str, Any], reduction: str) -> None:
    logits, target = torch.tensor([0.5, torch.nan, -1.0]), torch.tensor([1.0, torch.nan, 0.0])
    loss = losses.create("bce", **parameters, reduction=reduction)
    value, gradient = backward(loss, logits, target, weight=torch.tensor([2.0, 0.0, 1.0]))
    factor = parameters.get("positive_weight", 1.0)
    first, last = 2 * factor * math.log1p(math.exp(-0.5)), math.log1p(math.exp(-1.0))
    expected = {"mean": (first + last) / 3, "sum": first + last, "none": [first, 0, last]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert gradient[1] == 0
    assert gradient[0] != 0


def test_all_weights_zero_is_zero_with_zero_gradient() -> None:
    value, gradient = backward(losses.create("bce"), torch.randn(3), torch.rand(3), weight=torch.zeros(3))
    assert value == 0
    assert not gradient.any()


def test_positive_weight_does_not_count_in_the_mean() -> None:
    logits, target = torch.randn(5, dtype=torch.float64), torch.tensor([1, 1, 0, 0, 1])
    expected = F.binary_cross_entropy_with_logits(
        logits, target.double(), pos_weight=torch.tensor(3.0, dtype=torch.float64)
    )
    torch.testing.assert_close(losses.create("bce", positive_weight=3.0)(logits, target), expected)


def test_positive_weights_in_a_list_are_as_exact_as_a_number() -> None:
    logits, target = torch.randn(5, 1, dtype=torch.float64), torch.ones(5, 1)
    number, listed = (losses.create("bce", positive_weight=weight)(logits, target) for weight in (0.3, [0.3]))
    torch.testing.assert_close(listed, number, rtol=1e-12, atol=0)


def test_half_batches_over_the_number_of_elements_give_the_whole_gradient() -> None:
    logits, target = torch.randn(6, 2, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64)
    _, whole = backward(losses.create("bce"), logits, target)
    halves = [
        backward(losses.create("bce"), logits[part], target[part], normalizer=12)[1]
        for part in (slice(0, 1), slice(1, 6))
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize(
    ("logits", "target", "words"),
    [
        (torch.randn(4, 1), torch.ones(4), ["(4, 1)", "(4,)", "logits.squeeze(-1)"]),
        (torch.randn(4), torch.ones(4, 1), ["(4, 1)", "(4,)", "target.squeeze(-1)"]),
        (torch.randn(4), torch.ones(3), ["(4,)", "(3,)", "nothing is broadcast"]),
        (torch.randn(2, 3), torch.ones(3, 2), ["(2, 3)", "(3, 2)", "reshape_as"]),
        (torch.randn(2), torch.tensor([-1.0, 1.0]), ["[0, 1]", "-1", "target > 0"]),
        (torch.ones(2, dtype=torch.long), torch.ones(2), ["logits", "floating point", "int64", "logits.float()"]),
        (torch.tensor([torch.nan, 1.0]), torch.ones(2), ["NaN", "1 of 2"]),
        (torch.randn(2), [1, 0], ["target", "a list"]),
        (Triplets(*torch.randn(3, 2, 2)), None, ["binary_cross_entropy", "Triplets"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(logits: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("bce")(logits, target)


def test_positive_weight_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="positive_weight holds 2 numbers"):
        losses.create("bce", positive_weight=[1, 2])(torch.randn(4, 3), torch.ones(4, 3))


def test_logits_that_went_through_a_sigmoid_raise_a_warning() -> None:
    with pytest.warns(UserWarning, match="sigmoid"):
        losses.create("bce")(torch.randn(64).sigmoid(), torch.ones(64))
