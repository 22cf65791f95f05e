"""What is peculiar to the entropy: it looks at the output alone, and it pulls two ways."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses import Pairs
from losses.ops.tiles.sizes import block_sizes
from tests.divergence.edges import EDGES, FORMS, in_form
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@each_dtype
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("edge", EDGES)
def test_zeros_cost_nothing_in_every_form(form: str, edge: str, dtype: torch.dtype) -> None:
    values = in_form(EDGES[edge], form, dtype)
    items, gradient = backward(losses.create("entropy", output_form=form, reduction="none"), values)
    expected = [-sum(p * math.log(p) for p in row if p) for row in EDGES[edge]]
    torch.testing.assert_close(items.double(), torch.tensor(expected).double(), rtol=1e-2, atol=1e-3)
    if form != "logits":
        assert not gradient[torch.tensor(EDGES[edge]) == 0].any()


@each_dtype
def test_logits_of_ten_thousand_are_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -torch.inf]], dtype=dtype)
    items, gradient = backward(losses.create("entropy", reduction="none"), logits)
    torch.testing.assert_close(items.double(), torch.tensor([0, math.log(2), math.log(2)]).double())
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (1,)], ids=str)
def test_empty_batches_and_one_outcome_are_zero(shape: tuple[int, ...]) -> None:
    value, gradient = backward(losses.create("entropy"), torch.randn(shape))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("form", FORMS)
def test_it_is_largest_where_all_outcomes_are_equally_probable(form: str) -> None:
    uniform = in_form([[0.25] * 4], form, torch.float64)
    value, gradient = backward(losses.create("entropy", output_form=form), uniform)
    assert value.item() == pytest.approx(math.log(4))
    torch.testing.assert_close(gradient, gradient[:, :1].expand_as(gradient))  # none along the simplex


@pytest.mark.parametrize(("weight", "is_certain"), [(0.5, True), (-0.5, False)])
def test_a_weight_above_0_makes_certain_and_one_below_0_keeps_from_it(weight: float, is_certain: bool) -> None:
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 4
    terms = ["cross_entropy", {"loss": "entropy", "weight": weight}]
    objective = losses.create("weighted_sum", terms=terms)
    _, gradient = backward(objective, logits, labels)
    _, of_entropy = backward(losses.create("entropy"), logits)
    _, alone = backward(losses.create("cross_entropy"), logits, labels)
    torch.testing.assert_close(gradient, alone + weight * of_entropy)
    with torch.no_grad():
        moved = losses.create("entropy")(logits - 0.1 * (gradient - alone))
        assert bool(moved < losses.create("entropy")(logits)) == is_certain


def test_the_best_of_a_confidence_penalty_is_a_softer_distribution() -> None:
    """-sum t log o - b H(o) is least where t / o + b log o is the same for all outcomes; with b = 1 and two of them,
    t = 0.9, that is o = 0.7286..., by bisection."""
    low, high = 0.5, 0.9
    for _ in range(60):
        middle = (low + high) / 2
        slope = -0.9 / middle + 0.1 / (1 - middle) + math.log(middle / (1 - middle))
        low, high = (middle, high) if slope < 0 else (low, middle)
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    objective = losses.create("weighted_sum", terms=["cross_entropy", {"loss": "entropy", "weight": -1.0}])
    optimiser = torch.optim.SGD([logits], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        objective(logits, torch.tensor([[0.9, 0.1]]).double()).backward()
        optimiser.step()
    assert logits.detach().softmax(1)[0, 0].item() == pytest.approx(low, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_weight_zero_hides_nan(form: str) -> None:
    probs = torch.tensor([[0.5, 0.5], [torch.nan, torch.nan]])
    output = probs if form == "probs" else probs.log()
    value, gradient = backward(losses.create("entropy", output_form=form), output, weight=torch.tensor([2.0, 0.0]))
    assert value.item() == pytest.approx(math.log(2))
    assert not gradient[1].any()


def test_probabilities_behind_a_softmax_have_the_gradient_of_their_logits() -> None:
    """As long as they are normal numbers: down to 1.2e-38."""
    for gap in (0.0, 5.0, 40.0, 80.0, 95.0, 200.0):
        logits = torch.tensor([[gap, 0.0, gap / 2]], requires_grad=True)
        of_probs = losses.create("entropy", output_form="probs")(logits.softmax(-1))
        (found,) = torch.autograd.grad(of_probs, logits, create_graph=True)
        (second,) = torch.autograd.grad(found[0, 0], logits)
        (expected,) = torch.autograd.grad(losses.create("entropy")(logits), logits)
        assert second.isfinite().all()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def both(value: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return value and gradient, which is multiplied by something from above."""
    logits = logits.detach().requires_grad_()
    found = value(logits)
    return found.detach(), torch.autograd.grad(-3 * found, logits)[0]


@given(
    shape=st.sampled_from([(7, 5), (5,), (2, 3, 4), (1, 1), (0, 3), (9, 40)]),
    elements=st.integers(1, 200),
    scale=st.sampled_from([1e-2, 1.0, 30.0, 1e3]),
    weighted=st.booleans(),
    impossible=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 9),
)
def test_blocks_and_few_operations_equal_the_definition(
    shape: tuple[int, ...],
    elements: int,
    scale: float,
    weighted: bool,
    impossible: bool,
    reduction: str,
    form: str,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    if impossible:
        logits[..., 1:2] = -torch.inf
    output = {"logits": logits, "log_probs": logits.log_softmax(-1), "probs": logits.softmax(-1)}[form]
    weight = torch.rand(shape[:-1], generator=generator, dtype=torch.float64) if weighted else None
    loss = losses.create("entropy", output_form=form, reduction=reduction)

    def by_definition(output: Tensor) -> Tensor:
        total = loss._on_accepted(loss.definition_total, output, None, weight)
        return total.mean() if reduction == "mean" else total.sum

    expected = both(by_definition, output)
    for least in (0, 1 << 60):
        with block_sizes(rows_in_blocks=least, row_elements=elements):
            found = both(lambda output: loss(output, weight=weight), output)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_graph_that_is_kept_gives_the_same_gradient_again_and_several_at_once() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64).mT.requires_grad_()
    with block_sizes(rows_in_blocks=0, row_elements=9):
        value = losses.create("entropy")(logits)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    factors = torch.tensor([1.0, 2.0], dtype=torch.float64)
    (batched,) = torch.autograd.grad(value, logits, factors, is_grads_batched=True, retain_graph=True)
    torch.testing.assert_close(batched, torch.stack([first, 2 * first]))
    first.zero_()
    (again,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(again, batched[0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("least", [0, 1 << 60], ids=["blocks", "few operations"])
def test_second_derivatives_are_right(weighted: bool, least: int) -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(6, dtype=torch.float64) if weighted else None
    with block_sizes(rows_in_blocks=least, row_elements=9):
        loss = losses.create("entropy")
        assert torch.autograd.gradcheck(lambda x: loss(x, weight=weight), logits)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, weight=weight), logits)


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (torch.randn(3, 4), torch.arange(3), ["entropy", "leave the target out", "(3,)", "'cross_entropy'"]),
        (torch.randn(3, 4).softmax(1), None, ["output", "logits", "output_form='probs'"]),
        (torch.full((1, 2), torch.nan), None, ["output", "NaN"]),
        (torch.ones(3, 4, dtype=torch.long), None, ["output", "floating point"]),
        (torch.randn(3, 0), None, ["K > 0", "(3, 0)"]),
        (torch.randn(()), None, ["last dimension"]),
        (Pairs(torch.randn(3, 4), torch.randn(3, 4)), None, ["entropy", "Pairs"]),
        (None, None, ["entropy", "None"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(output: Any, target: Tensor, words: list[str]) -> None:
    with refused(words):
        losses.create("entropy")(output, target)
