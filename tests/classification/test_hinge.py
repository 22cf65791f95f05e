"""What is peculiar to the hinge loss: three ways to write a target, and nothing to pay beyond the margin."""

from typing import Any

import pytest
import torch

import losses
from losses import Pairs
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("power", [1, 2])
def test_zero_one_and_signs_and_booleans_mean_the_same(power: int) -> None:
    scores, yes = torch.randn(20), torch.rand(20) > 0.5
    loss = losses.create("hinge", power=power, reduction="none")
    expected = torch.stack([max(1 - (s if y else -s), s * 0) ** power for s, y in zip(scores, yes, strict=True)])
    for target in (yes, yes.long(), yes.float(), yes.long() * 2 - 1, yes.float() * 2 - 1, yes.to(torch.uint8)):
        torch.testing.assert_close(loss(scores, target), expected)


@pytest.mark.parametrize(("power", "right", "wrong"), [(1, 0.0, 1.0), (2, 0.0, 20002.0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_of_ten_thousand_are_finite(power: int, right: float, wrong: float, dtype: torch.dtype) -> None:
    scores = torch.tensor([1e4, 1e4], dtype=dtype)
    _, gradient = backward(losses.create("hinge", power=power, reduction="sum"), scores, torch.tensor([1, 0]))
    assert gradient[0] == right
    assert gradient[1].item() == pytest.approx(wrong, rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_is_zero_with_a_graph(dtype: torch.dtype) -> None:
    value, gradient = backward(losses.create("hinge"), torch.zeros(0, dtype=dtype), torch.zeros(0))
    assert value == 0
    assert gradient.shape == (0,)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_in_scores_and_target(reduction: str) -> None:
    scores, target = torch.tensor([0.5, torch.nan, 0.25]), torch.tensor([1.0, torch.nan, -1.0])
    value, gradient = backward(
        losses.create("hinge", reduction=reduction), scores, target, weight=torch.tensor([2.0, 0.0, 1.0])
    )
    assert value.tolist() == {"mean": 2.25 / 3, "sum": 2.25, "none": [1.0, 0.0, 1.25]}[reduction]
    assert gradient[1] == 0


def test_half_batches_over_the_number_of_elements_give_the_whole_gradient() -> None:
    scores, target = torch.randn(6, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0, 0])
    _, whole = backward(losses.create("hinge", power=2), scores, target)
    halves = [
        backward(losses.create("hinge", power=2), scores[p], target[p], normalizer=6)[1]
        for p in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize(
    ("scores", "target", "words"),
    [
        (torch.randn(4, 1), torch.ones(4), ["scores", "(4, 1)", "(4,)", "scores.squeeze(-1)"]),
        (torch.randn(4), torch.ones(3), ["(4,)", "(3,)", "nothing is broadcast"]),
        (torch.ones(2, dtype=torch.long), torch.ones(2), ["scores", "floating point", "scores.float()"]),
        (torch.tensor([torch.nan, 1.0]), torch.ones(2), ["NaN", "1 of 2"]),
        (Pairs(torch.randn(3, 4), torch.randn(3, 4)), torch.ones(3), ["hinge", "Pairs"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(scores: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("hinge")(scores, target)
