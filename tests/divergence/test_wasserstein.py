"""What is peculiar to the Wasserstein distance: ties, empty bins, weights, and distances of exactly zero."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

import losses
from losses import ConfigError, Pairs, Samples
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
POWERS = [1, 1.5, 2, 3]


def backward(
    loss: losses.Loss, output: Any, target: Any, *leaves: Tensor, **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return value and gradients, all finite."""
    value = loss(output, target, **options)
    gradients = torch.autograd.grad(value.sum(), leaves)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    return value.detach(), list(gradients)


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("value", ["distance", "cost"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_samples_are_zero_with_zero_gradient(p: float, value: str, dtype: torch.dtype) -> None:
    for points in (torch.randn(3, 5), torch.ones(3, 5), torch.zeros(3, 5), torch.zeros(3, 1)):
        leaf = points.to(dtype).requires_grad_()
        for target in (leaf.detach(), torch.cat([leaf.detach()] * 2, 1), leaf.detach().flip(1)):
            distance, (gradient,) = backward(losses.create("emd", p=p, value=value), leaf, target, leaf)
            assert distance.item() == pytest.approx(0, abs=1e-6 if p == 1 or value == "cost" else 1e-3)
            if target.shape == leaf.shape:
                assert distance == 0
                assert not gradient.any()


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("form", ["probs", "logits"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_hot_and_disjoint_histograms_are_exact_and_finite(p: float, form: str, dtype: torch.dtype) -> None:
    first, second = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]), torch.tensor([[0.0, 0, 0, 1], [0, 0, 0.5, 0.5]])
    if form == "logits":
        first, second = (((part > 0) * 2e4 - 1e4).to(dtype) for part in (first, second))
    first = first.to(dtype).requires_grad_()
    value, _ = backward(losses.create("emd", p=p, form=form, reduction="none"), first, second.to(dtype), first)
    assert value.tolist() == pytest.approx([3.0, 2.0])
    value, _ = backward(losses.create("emd", p=p, form=form), first, first.detach(), first)
    assert value == 0


@pytest.mark.parametrize("p", POWERS)
def test_shifting_every_point_moves_it_by_the_shift(p: float) -> None:
    points = torch.randn(6, dtype=torch.float64)
    for target in (points + 2.5, torch.cat([points, points]) + 2.5):
        assert losses.create("emd", p=p)(points, target).item() == pytest.approx(2.5)
        assert losses.create("emd", p=p, value="cost")(points, target).item() == pytest.approx(2.5**p)


def test_weights_of_zero_and_repeated_points_mean_what_they_say() -> None:
    points, weights = torch.tensor([0.0, 5.0, 99.0, 1.0]), torch.tensor([2.0, 1.0, 0.0, 1.0])
    repeated, target = torch.tensor([0.0, 0.0, 5.0, 1.0]), torch.tensor([3.0, -1.0, 0.5])
    for p in POWERS:
        loss = losses.create("emd", p=p)
        torch.testing.assert_close(loss(Samples(points, weights), target), loss(repeated, target))
        torch.testing.assert_close(loss(target, Samples(points, weights * 7)), loss(repeated, target))
        torch.testing.assert_close(loss((points, weights), target), loss(repeated, target))


def test_a_thousand_random_problems_equal_scipy() -> None:
    random = np.random.default_rng(0)
    loss = losses.create("emd")
    for _ in range(1000):
        first, second = (random.integers(0, 6, random.integers(1, 9)).astype(float) for _ in range(2))  # many ties
        u, v = random.random(len(first)) + 1e-3, random.random(len(second)) + 1e-3
        expected = scipy.stats.wasserstein_distance(first, second, u, v)
        samples = (
            Samples(torch.tensor(points), torch.tensor(weights)) for points, weights in ((first, u), (second, v))
        )
        assert loss(*samples).item() == pytest.approx(expected, abs=1e-9)


def test_positions_need_not_be_sorted() -> None:
    probs, other = torch.randn(2, 3, 4, dtype=torch.float64).softmax(-1)
    order = torch.tensor([2, 0, 3, 1])
    positions = torch.tensor([0.0, 1.0, 4.0, 9.0])
    plain = losses.create("emd", form="probs", positions=positions.tolist())(probs, other)
    shuffled = losses.create("emd", form="probs", positions=positions[order].tolist())(probs[:, order], other[:, order])
    torch.testing.assert_close(shuffled, plain)


def test_positions_are_as_exact_as_double_precision_histograms() -> None:
    loss = losses.create("emd", form="probs", positions=[0.0, 0.1])
    one, other = torch.eye(2, dtype=torch.float64)
    assert loss(one, other).item() == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [(torch.float32, torch.float64), (torch.float64, torch.float32), (torch.float16, torch.float64)],
)
def test_samples_of_two_precisions_compare(first: torch.dtype, second: torch.dtype) -> None:
    output, target = torch.tensor([0.0, 1.0, 2.0]).to(first), torch.tensor([5.0, 6.5]).to(second)
    value = losses.create("emd")(output.requires_grad_(), target)
    value.backward()
    assert value.item() == pytest.approx(4.75)
    assert output.grad is not None
    assert output.grad.tolist() == pytest.approx([-1 / 3] * 3, rel=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("form", ["samples", "probs", "logits"])
def test_weight_zero_hides_nan(reduction: str, form: str) -> None:
    output = torch.tensor([[1.0, 0.0], [torch.nan, 1.0], [0.0, 1.0]]) * (1 if form != "logits" else 60)
    target = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [0.0, 1.0]]) * (1 if form != "logits" else 60)
    output.requires_grad_()
    weight = torch.tensor([1.0, 0.0, 3.0])
    value, (gradient,) = backward(
        losses.create("emd", form=form, reduction=reduction), output, target, output, weight=weight
    )
    first = 0.0 if form == "samples" else 1.0
    expected = {"mean": first / 4, "sum": first, "none": [first, 0.0, 0.0]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert not gradient[1].any()


def test_half_batches_over_their_number_give_the_whole_gradient() -> None:
    output, target = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    whole, halves = output.clone().requires_grad_(), output.clone().requires_grad_()
    losses.create("emd", p=2)(whole, target).backward()
    for part in (slice(0, 2), slice(2, 6)):
        losses.create("emd", p=2)(halves[part], target[part], normalizer=6).backward()
    torch.testing.assert_close(halves.grad, whole.grad)


def test_no_distributions_are_zero_with_a_graph() -> None:
    leaf = torch.zeros(0, 3, requires_grad=True)
    value, _ = backward(losses.create("emd"), leaf, torch.zeros(0, 4), leaf)
    assert value == 0


@pytest.mark.parametrize("p", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_distance_of_ten_thousand_is_finite_for_any_power(p: float, dtype: torch.dtype) -> None:
    leaf = torch.tensor([1e4, 2e4], dtype=dtype, requires_grad=True)
    value, _ = backward(losses.create("emd", p=p), leaf, torch.tensor([-1e4, 0.0], dtype=dtype), leaf)
    assert value.item() == pytest.approx(2e4, rel=1e-5)


@pytest.mark.parametrize(
    ("parameters", "output", "target", "words"),
    [
        ({}, torch.randn(3, 4), torch.randn(2, 4), ["(3, 4)", "(2, 4)", "leading"]),
        ({}, torch.randn(3, 4), torch.randn(4), ["(3, 4)", "(4,)"]),
        ({}, torch.randn(3, 0), torch.randn(3, 4), ["at least one sample"]),
        ({}, torch.randn(()), torch.randn(()), ["last dimension"]),
        ({}, torch.ones(3, dtype=torch.long), torch.randn(3), ["output", "floating point"]),
        ({}, torch.tensor([torch.nan, 1.0]), torch.randn(3), ["output", "NaN", "1 of 2"]),
        ({}, torch.randn(3), None, ["target", "None"]),
        ({}, torch.randn(3), (torch.randn(3),) * 3, ["target"]),
        ({}, Samples(torch.randn(3), torch.rand(4)), torch.randn(3), ["points", "weights", "(3,)", "(4,)"]),
        ({}, Samples(torch.randn(3), torch.zeros(3)), torch.randn(3), ["weights", "positive sum"]),
        ({}, Samples(torch.randn(3), torch.tensor([1.0, -1, 1])), torch.randn(3), ["weights", "at least 0"]),
        ({"form": "probs"}, torch.ones(2, 3) / 3, torch.ones(2, 4) / 4, ["(2, 3)", "(2, 4)"]),
        ({"form": "probs"}, torch.zeros(2, 3), torch.ones(2, 3) / 3, ["output", "sum to 1", "0"]),
        ({"form": "probs"}, torch.ones(2, 3), torch.ones(2, 3) / 3, ["output", "sum to 1", "3"]),
        ({"form": "probs"}, torch.randn(2, 3) - 5, torch.ones(2, 3) / 3, ["output", "[0, 1]"]),
        ({"form": "logits"}, torch.ones(2, 3) / 3, torch.randn(2, 3), ["output", "logits", "form='probs'"]),
        (
            {"form": "probs", "positions": [0, 1]},
            torch.ones(2, 3) / 3,
            torch.ones(2, 3) / 3,
            ["positions holds 2", "3 entries"],
        ),
        ({"form": "probs"}, Samples(torch.ones(3) / 3, torch.ones(3)), torch.ones(3) / 3, ["output", "Samples"]),
        ({}, Pairs(torch.randn(3), torch.randn(3)), torch.randn(3), ["wasserstein", "Pairs"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    parameters: Any, output: Any, target: Any, words: list[str]
) -> None:
    with refused(words):
        losses.create("wasserstein", **parameters)(output, target)


def test_positions_of_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples say themselves where they are"):
        losses.create("emd", positions=[0, 1])


def test_off_by_one_costs_less_than_off_by_ten() -> None:
    probs = torch.eye(12)
    loss = losses.create("emd", form="probs", reduction="none")
    assert loss(probs[[1, 10]], probs[[0, 0]]).tolist() == [1, 10]
    assert math.isclose(losses.create("emd", form="probs", p=2)(probs[3:4], probs[:1]).item(), 3)


@pytest.mark.parametrize("p", [2.0, 10.0, 50.0])
def test_a_high_power_does_not_overflow_on_the_way_to_a_distance(p: float) -> None:
    far = losses.create("wasserstein", p=p)(torch.tensor([1e4, 1e4]), torch.tensor([-1e4, -1e4]))
    assert far.item() == pytest.approx(2e4)


def test_many_unequal_samples_in_single_precision_are_as_exact_as_their_points() -> None:
    first, second = torch.randn(100_000), torch.randn(70_001) + 1
    loss = losses.create("wasserstein")
    assert loss(first, second).item() == pytest.approx(loss(first.double(), second.double()).item(), rel=1e-6)
