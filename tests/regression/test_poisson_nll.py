"""Poisson likelihood: any log-rate, counts of any type, and the factorial."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses import PoissonNLLLoss
from losses.ops.numerics.exponential import largest_exponent
from losses.ops.tiles.sizes import block_sizes
from losses.regression.poisson_nll import poisson_nll
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("full", [False, True])
def test_both_values_of_full_keep_the_contract(full: bool) -> None:
    losses.check_loss(PoissonNLLLoss(full=full)).raise_for_failures()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_log_rate_has_a_finite_value_and_gradient(dtype: torch.dtype, reduction: Any) -> None:
    log_rates = torch.tensor([-1e4, -80.0, -10.0, 0.0, 8.0, 12.0, 80.0, 1e4], dtype=dtype)
    for count in (0.0, 3.0, 1e4):
        backward(PoissonNLLLoss(reduction=reduction), log_rates, torch.full((8,), count))


def test_it_is_smallest_where_the_rate_is_the_count() -> None:
    counts = torch.tensor([1.0, 3.0, 250.0])
    _, gradient = backward(PoissonNLLLoss(reduction="none"), counts.log(), counts)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.float64], ids=str)
def test_counts_of_any_type_mean_the_same(dtype: torch.dtype) -> None:
    value = PoissonNLLLoss()(torch.zeros(2), torch.tensor([1, 5], dtype=dtype))
    assert value == 1


@pytest.mark.parametrize("count", [0, 1, 2, 5, 20])
def test_the_factorial_is_exact(count: int) -> None:
    value = PoissonNLLLoss(full=True)(torch.zeros(1, dtype=torch.float64), torch.tensor([count]))
    assert value.item() == pytest.approx(1 + math.log(math.factorial(count)), rel=1e-14)


def test_a_count_below_0_is_refused() -> None:
    with refused(["counts of at least 0", "got -2", "'mse'"]):
        losses.create("poisson_nll")(torch.zeros(2), torch.tensor([1, -2]))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 70),
    far=st.booleans(),
    full=st.booleans(),
    weighted=st.booleans(),
    blocks=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_equal_the_definition(
    size: int, far: bool, full: bool, weighted: bool, blocks: bool, seed: int
) -> None:
    """In blocks and by torch's function, where some rates are beyond where exp goes on as its tangent, and what has
    weight 0 is NaN."""
    random = torch.Generator().manual_seed(seed)
    log_rates = torch.randn(size, generator=random, dtype=torch.float64)
    counts = torch.randint(9, (size,), generator=random)
    if far:
        log_rates[::3] = 600.0
    weight = (torch.arange(size) % 4).double() if weighted else torch.ones(size, dtype=torch.float64)
    mine = log_rates.masked_fill(weight == 0, torch.nan).requires_grad_()
    least = 1 if blocks else 1000
    with block_sizes(block=8, in_blocks_long=least, in_blocks=least):
        value = PoissonNLLLoss(full=full)(mine, counts, weight=weight if weighted else None)
    other = log_rates.requires_grad_()
    expected = (poisson_nll(other, counts.double(), full=full) * weight).sum() / weight.sum().clamp(min=1)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(part, leaf)[0] for part, leaf in ((value, mine), (expected, other)))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_counts_go_on_along_the_tangent_where_many_do(dtype: torch.dtype) -> None:
    largest = largest_exponent(dtype)
    log_rates = torch.tensor([largest - 1, largest, largest + 1, 1e4, -1e4], dtype=dtype).requires_grad_()
    target, loss = torch.ones(5, dtype=dtype), PoissonNLLLoss()
    for each in log_rates.detach().split(1):
        few = each.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(few, target[:1]), few)
        (expected,) = torch.autograd.grad(loss.items(few, target[:1]).mean(), few)
        torch.testing.assert_close(loss(few, target[:1]), loss.items(few, target[:1]).mean())
        torch.testing.assert_close(slope, expected)
    assert torch.autograd.grad(loss(log_rates, target), log_rates)[0].isfinite().all()
