"""What is peculiar to the Jensen-Shannon divergence: bounded and finite whatever the supports."""

import itertools
import math
from typing import Any

import pytest
import torch

import losses
from losses import Triplets
from tests.divergence.edges import EDGES, FORMS, in_form
from tests.gradients import backward_of_both
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(EDGES, EDGES)))
@pytest.mark.parametrize("mixture", [0.5, 0.1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zeros_are_finite_and_bounded_in_every_form(
    first: str, second: str, mixture: float, dtype: torch.dtype
) -> None:
    most = -mixture * math.log(mixture) - (1 - mixture) * math.log(1 - mixture)
    for output, target in itertools.product(FORMS, FORMS):
        sides = in_form(EDGES[first], output, dtype), in_form(EDGES[second], target, dtype)
        value, *_ = backward_of_both(
            losses.create("js", output_form=output, target_form=target, mixture=mixture, reduction="none"), *sides
        )
        assert (value > -1e-6).all()
        assert (value < most + 5e-3).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_disjoint_supports_cost_log_two(dtype: torch.dtype) -> None:
    first, second = torch.tensor([[0.5, 0.5, 0, 0]], dtype=dtype), torch.tensor([[0, 0, 0.25, 0.75]], dtype=dtype)
    value, *_ = backward_of_both(losses.create("js", output_form="probs"), first, second)
    assert value.item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype)
    for target in (logits, logits.flip(0), logits.flip(1), torch.zeros(2, 3, dtype=dtype)):
        value, *_ = backward_of_both(losses.create("js", target_form="logits"), logits, target)
        assert value <= math.log(2) + 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_distributions_cost_nothing(dtype: torch.dtype) -> None:
    for probs in EDGES.values():
        values = torch.tensor(probs, dtype=dtype)
        value, *_ = backward_of_both(losses.create("js", output_form="probs"), values, values)
        assert abs(value.item()) < 1e-6


def test_it_is_symmetric_at_one_half_only() -> None:
    first, second = torch.randn(2, 4, 5, dtype=torch.float64).softmax(-1)
    for mixture, symmetric in ((0.5, True), (0.3, False)):
        loss = losses.create("js", output_form="probs", mixture=mixture)
        assert torch.allclose(loss(first, second), loss(second, first), atol=1e-12) == symmetric


@pytest.mark.parametrize("mixture", [0.3, 0.01])
def test_the_mixture_is_the_share_of_the_target(mixture: float) -> None:
    """For disjoint supports the divergence is the entropy of the mixture's coin; for a small share it tends to
    KL(target‖output)."""
    disjoint = losses.create("js", output_form="probs", mixture=mixture)(
        torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    )
    assert disjoint.item() == pytest.approx(-mixture * math.log(mixture) - (1 - mixture) * math.log(1 - mixture))
    if mixture == 0.01:
        o, t = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.7, 0.3], dtype=torch.float64)
        kl = (t * (t / o).log()).sum().item()
        assert losses.create("js", output_form="probs", mixture=0.01)(o, t).item() == pytest.approx(0.01 * kl, rel=0.03)


@pytest.mark.parametrize("form", FORMS)
def test_weight_zero_hides_nan(form: str) -> None:
    output = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan]])
    output = output if form == "probs" else output.log()
    target = torch.tensor([[0.0, 1.0], [torch.nan, torch.nan]])
    value, gradient, _ = backward_of_both(
        losses.create("js", output_form=form), output, target, weight=torch.tensor([2.0, 0.0])
    )
    assert value.item() == pytest.approx(math.log(2))
    assert not gradient[1].any()


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (1,)], ids=str)
def test_empty_batches_and_one_outcome_are_zero(shape: tuple[int, ...]) -> None:
    value, *_ = backward_of_both(losses.create("js"), torch.randn(shape), torch.ones(shape))
    assert abs(value.item()) < 1e-6


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (torch.randn(3, 4), torch.ones(3, 5) / 5, ["(3, 4)", "(3, 5)"]),
        (torch.randn(3, 4), torch.ones(3, 4), ["target", "sum to 1", "4"]),
        (torch.randn(3, 4), torch.zeros(3, 4), ["target", "sum to 1", "0"]),
        (torch.randn(3, 4).softmax(1), torch.ones(3, 4) / 4, ["output", "logits", "output_form='probs'"]),
        (torch.full((1, 2), torch.nan), torch.ones(1, 2) / 2, ["output", "NaN"]),
        (Triplets(*torch.randn(3, 2, 2)), torch.ones(3), ["js_divergence", "Triplets"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(output: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("js")(output, target)
