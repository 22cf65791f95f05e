"""What is peculiar to the Kullback-Leibler divergence: zeros, forms of a distribution, and Distribution objects."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Laplace, Normal, Poisson, Uniform

import losses
from losses import InputError, Pairs
from tests.divergence.edges import EDGES, FORMS, in_form
from tests.gradients import backward_of_both
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(EDGES, EDGES)))
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zeros_are_finite_in_every_form(first: str, second: str, direction: str, dtype: torch.dtype) -> None:
    # log-probabilities rounded to 8 bits sum to 1 within 0.4 %, to 11 bits within 0.05 %
    lowest = {torch.bfloat16: -5e-3, torch.float16: -5e-4}.get(dtype, -1e-6)
    for output, target in itertools.product(FORMS, FORMS):
        for temperature in (1.0, 2.0):
            loss = losses.create(
                "kl",
                output_form=output,
                target_form=target,
                direction=direction,
                temperature=temperature,
                reduction="none",
            )
            value, *_ = backward_of_both(
                loss, in_form(EDGES[first], output, dtype), in_form(EDGES[second], target, dtype)
            )
            assert (value > lowest).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(direction: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype)
    for target in (logits, logits.flip(0), logits.flip(1), torch.zeros(2, 3, dtype=dtype)):
        backward_of_both(losses.create("kl", target_form="logits", direction=direction), logits, target)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_distributions_cost_nothing(direction: str, dtype: torch.dtype) -> None:
    for probs in EDGES.values():
        values = in_form(probs, "probs", dtype)
        value, *_ = backward_of_both(losses.create("kl", output_form="probs", direction=direction), values, values)
        assert value == 0


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (4, 1), (1,)], ids=str)
def test_empty_batches_and_one_outcome_are_zero(shape: tuple[int, ...]) -> None:
    value, gradient, _ = backward_of_both(losses.create("kl"), torch.randn(shape), torch.ones(shape))
    assert value == 0
    assert not gradient.any()


def test_a_zero_that_the_target_has_costs_nothing_and_one_that_it_lacks_is_large() -> None:
    loss = losses.create("kl", output_form="probs", reduction="none")
    assert loss(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).item() == pytest.approx(math.log(2))
    assert loss(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])).item() > 40


def test_it_is_the_mean_of_distributions_not_of_elements() -> None:
    output, target = torch.randn(4, 6, 10, dtype=torch.float64), torch.randn(4, 6, 10, dtype=torch.float64).softmax(-1)
    expected = (target * (target.log() - output.log_softmax(-1))).sum() / 24
    torch.testing.assert_close(losses.create("kl")(output, target), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan(form: str, reduction: str) -> None:
    probs = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    output = probs if form == "probs" else probs.log()
    output[1] = torch.nan
    target = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [0.5, 0.5]])
    loss = losses.create("kl", output_form=form, reduction=reduction)
    value, gradient, of_target = backward_of_both(loss, output, target, weight=torch.tensor([1.0, 0.0, 3.0]))
    expected = {"mean": math.log(2) / 4, "sum": math.log(2), "none": [math.log(2), 0.0, 0.0]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert not gradient[1].any()
    assert not of_target[1].any()


def test_half_batches_over_their_number_give_the_whole_gradient() -> None:
    output, target = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64).softmax(-1)
    _, whole, _ = backward_of_both(losses.create("kl"), output, target)
    halves = [
        backward_of_both(losses.create("kl"), output[p], target[p], normalizer=6)[1] for p in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


def test_the_gradient_keeps_its_size_with_temperature() -> None:
    """Hinton et al. 2015, section 2: T^2 KL tends to half the mean square of centred logits for high T."""
    output, target = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    value = losses.create("kl", target_form="logits", temperature=1e4)(output, target)
    difference = (output - output.mean(1, keepdim=True)) - (target - target.mean(1, keepdim=True))
    assert value.item() == pytest.approx((difference**2).sum(1).mean().item() / 8, rel=1e-3)


@pytest.mark.parametrize(
    ("parameters", "output", "target", "words"),
    [
        ({}, torch.randn(3, 4), torch.ones(3, 5) / 5, ["(3, 4)", "(3, 5)"]),
        ({}, torch.randn(3, 4), torch.ones(4) / 4, ["(3, 4)", "(4,)"]),
        ({}, torch.randn(3, 4), torch.randn(3, 4).abs() + 2, ["target", "[0, 1]", "softmax"]),
        ({}, torch.randn(3, 4), torch.ones(3, 4), ["target", "sum to 1", "4"]),
        ({}, torch.randn(3, 4), torch.zeros(3, 4), ["target", "sum to 1", "0"]),
        ({}, torch.randn(3, 4).softmax(1), torch.ones(3, 4) / 4, ["output", "logits", "output_form='probs'"]),
        (
            {"target_form": "logits"},
            torch.randn(3, 4),
            torch.ones(3, 4) / 4,
            ["target", "logits", "target_form='probs'"],
        ),
        ({"output_form": "probs"}, torch.randn(3, 4) - 5, torch.ones(3, 4) / 4, ["output", "[0, 1]"]),
        ({"output_form": "log_probs"}, torch.zeros(3, 4), torch.ones(3, 4) / 4, ["output", "sum to 1"]),
        ({}, torch.full((1, 2), torch.nan), torch.ones(1, 2) / 2, ["output", "NaN"]),
        ({}, torch.ones(3, 4, dtype=torch.long), torch.ones(3, 4) / 4, ["output", "floating point"]),
        ({}, torch.randn(3, 4), torch.tensor([0, 1, 2]), ["(3, 4)", "(3,)"]),
        ({}, torch.randn(3, 0), torch.randn(3, 0), ["K > 0", "(3, 0)"]),
        ({}, torch.randn(()), torch.randn(()), ["last dimension"]),
        ({}, torch.randn(3, 4), None, ["target", "None"]),
        ({}, Pairs(torch.randn(3, 4), torch.randn(3, 4)), torch.ones(3), ["kl_divergence", "Pairs"]),
        ({}, Normal(0.0, 1.0), torch.randn(3), ["Normal", "Distribution", "(3,)"]),
        ({}, torch.randn(3), Normal(0.0, 1.0), ["target", "Normal"]),
        ({}, Normal(torch.zeros(3), 1.0), Normal(torch.zeros(2), 1.0), ["(3,)", "(2,)", "expand"]),
        ({}, Categorical(torch.ones(3)), Laplace(torch.zeros(()), 1.0), ["Laplace", "Categorical"]),
        ({"temperature": 2.0}, Normal(0.0, 1.0), Normal(0.0, 1.0), ["temperature"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    parameters: Any, output: Any, target: Any, words: list[str]
) -> None:
    with refused(words):
        losses.create("kl", **parameters)(output, target)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_objects_in_either_direction_say_which_is_missing(direction: str) -> None:
    with pytest.raises(InputError, match=r"Poisson.*Uniform|Uniform.*Poisson"):
        losses.create("kl", direction=direction)(Poisson(torch.ones(2)), Uniform(torch.zeros(2), torch.ones(2)))


def test_objects_take_one_weight_per_element_of_their_batch() -> None:
    output, target = Normal(torch.tensor([0.0, 1.0]), 1.0), Normal(torch.tensor([2.0, 2.0]), 1.0)
    assert losses.create("kl")(output, target, weight=torch.tensor([3.0, 1.0])) == (3 * 2 + 0.5) / 4


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_infinite_divergence_of_weight_zero_changes_nothing(reduction: str) -> None:
    output = Uniform(torch.zeros(2), torch.tensor([2.0, 1.0]))
    target = Uniform(torch.zeros(2), torch.tensor([1.0, 2.0]))  # the second reaches beyond the output: infinite
    value = losses.create("kl", reduction=reduction)(output, target, weight=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(value, torch.tensor([math.log(2), 0.0] if reduction == "none" else math.log(2)))
