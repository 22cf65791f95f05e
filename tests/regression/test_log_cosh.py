"""Log-cosh: residuals of every size, to all their digits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses import LogCoshLoss
from losses.ops.elementwise.formulas import LINEAR_BEYOND
from losses.regression.log_cosh import log_cosh
from tests.gradients import backward


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.02, 1.0, 5.0, 19.0, 21.0, 100.0, 1e6])
def test_a_residual_of_any_size_has_all_its_digits(size: float, dtype: torch.dtype) -> None:
    residual = torch.tensor([size, -size], dtype=dtype)
    value, gradient = backward(LogCoshLoss(reduction="none"), residual, torch.zeros(2, dtype=dtype))
    number = residual[0].item()
    # log cosh r = |r| - log 2 + log(1 + exp(-2 |r|)) is exact from 1 on, its series below a tenth
    series = number**2 / 2 - number**4 / 12 + number**6 / 45 - 17 * number**8 / 2520
    expected = number - math.log(2) + math.log1p(math.exp(-2 * number)) if number >= 1 else series
    tolerance = 8 * torch.finfo(dtype).eps
    assert value.tolist() == pytest.approx([expected, expected], rel=tolerance)
    assert gradient.tolist() == pytest.approx([math.tanh(number), -math.tanh(number)], rel=tolerance)


def test_the_two_parts_meet_without_a_step_or_a_kink() -> None:
    around = LINEAR_BEYOND + torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64)
    value, gradient = backward(LogCoshLoss(reduction="none"), around, torch.zeros_like(around))
    assert (value - (around - math.log(2))).abs().max() < 1e-14
    assert (gradient - 1).abs().max() < 1e-14


def test_the_second_derivative_is_one_less_the_square_of_tanh() -> None:
    residual = torch.linspace(-30, 30, 41, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(log_cosh(residual, torch.zeros_like(residual)).sum(), residual, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), residual)
    torch.testing.assert_close(second, 1 - residual.detach().tanh() ** 2, rtol=1e-9, atol=1e-12)


def test_a_large_batch_in_blocks_is_its_items() -> None:
    prediction = (30 * torch.randn(200_000, dtype=torch.float64)).requires_grad_()
    target, weight = torch.randn(200_000, dtype=torch.float64), torch.rand(200_000, dtype=torch.float64)
    for each in (None, weight):
        items = log_cosh(prediction, target)
        mean = items.mean() if each is None else (items * each).sum() / each.sum()
        value = LogCoshLoss()(prediction, target, weight=each)
        torch.testing.assert_close(value, mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            *(torch.autograd.grad(each_value, prediction)[0] for each_value in (value, mean)), rtol=1e-12, atol=1e-18
        )


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), scale=st.sampled_from([1e-9, 1e-3, 1.0, 30.0, 1e5]), seed=st.integers(0, 1000))
def test_a_few_elements_equal_the_definition(size: int, scale: float, seed: int) -> None:
    """Value, gradient and second derivative, with the gradient asked for twice and for several losses at once."""
    random = torch.Generator().manual_seed(seed)
    prediction, target = torch.randn(2, size, generator=random, dtype=torch.float64)
    leaf = (target + scale * prediction).requires_grad_()
    value, expected = LogCoshLoss()(leaf, target), log_cosh(leaf, target).mean()
    assert "Written" in str(value.grad_fn)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (slopes,) = torch.autograd.grad(expected, leaf, create_graph=True)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        torch.testing.assert_close(gradient, slopes, rtol=1e-12, atol=0)
    (several,) = torch.autograd.grad(value, leaf, torch.tensor([1.0, -2.0]).double(), True, is_grads_batched=True)
    torch.testing.assert_close(several, torch.stack([slopes, -2 * slopes]), rtol=1e-12, atol=0)
    (again,) = torch.autograd.grad(value, leaf, create_graph=True)
    second = [torch.autograd.grad(part.sum(), leaf, retain_graph=True)[0] for part in (again, slopes)]
    torch.testing.assert_close(*second, rtol=1e-12, atol=1e-300)
