"""Gaussian likelihood: any log-variance, the sum in one operation, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Gaussian, GaussianNLLLoss
from losses.regression.gaussian_nll import gaussian_nll
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Gaussian, Tensor]:
    mean, log_variance = (torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(2))
    return Gaussian(mean, log_variance), torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("full", [False, True])
def test_both_values_of_full_keep_the_contract(full: bool) -> None:
    losses.check_loss(GaussianNLLLoss(full=full)).raise_for_failures()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("log_variance", [-1e4, -80.0, -10.0, 0.0, 10.0, 80.0, 1e4], ids=str)
@pytest.mark.parametrize("residual", [0.0, 1e-4, 1.0, 100.0, 1e4], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_log_variance_has_a_finite_value_and_gradient(
    dtype: torch.dtype, residual: float, log_variance: float, reduction: Any
) -> None:
    output = Gaussian(*(torch.tensor([part], dtype=dtype).requires_grad_() for part in (residual, log_variance)))
    value = GaussianNLLLoss(reduction=reduction)(output, torch.zeros(1, dtype=dtype))
    gradients = torch.autograd.grad(value.sum(), output)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_variance_far_too_small_for_its_residual_is_widened(dtype: torch.dtype) -> None:
    """The likelihood has no smallest value where a prediction is exact; elsewhere the way back has to be open."""
    output = Gaussian(torch.tensor([1.0], dtype=dtype), torch.tensor([-1e4], dtype=dtype).requires_grad_())
    (gradient,) = torch.autograd.grad(GaussianNLLLoss()(output, torch.zeros(1, dtype=dtype)), output.log_variance)
    assert gradient < -1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_sum_in_one_operation_is_that_of_the_items(reduction: Any, full: bool, weighted: bool) -> None:
    output, target = drawn(40, 3)
    weight = torch.rand(40, dtype=torch.float64) if weighted else None
    items = gaussian_nll(*output, target, full=full)
    each = torch.ones_like(items) if weight is None else weight.unsqueeze(1).expand(40, 3)
    expected = (items * each).sum() / (each.sum() if reduction == "mean" else 1)
    value = GaussianNLLLoss(full=full, reduction=reduction)(output, target, weight=weight)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    first = [torch.autograd.grad(part, output, create_graph=True) for part in (value, expected)]
    torch.testing.assert_close(*first, rtol=1e-12, atol=1e-12)
    second = [torch.autograd.grad(sum(part.square().sum() for part in both), output) for both in first]
    torch.testing.assert_close(*second, rtol=1e-10, atol=1e-12)


def test_a_gradient_can_be_asked_for_again_and_for_several_at_once() -> None:
    output, target = drawn(5)
    value = GaussianNLLLoss(reduction="sum")(output, target)
    once, twice = (torch.autograd.grad(value, output, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(once, twice)
    scales = torch.tensor([1.0, -2.0], dtype=torch.float64)
    several = torch.autograd.grad(value, output, scales, is_grads_batched=True)
    torch.testing.assert_close(several, tuple(torch.stack([part, -2 * part]) for part in once))


def test_one_of_both_may_be_known() -> None:
    (mean, log_variance), target = drawn(5)
    for output, leaf in (
        (Gaussian(mean, log_variance.detach()), mean),
        (Gaussian(mean.detach(), log_variance), log_variance),
    ):
        ours, expected = GaussianNLLLoss()(output, target), gaussian_nll(*output, target).mean()
        torch.testing.assert_close(*(torch.autograd.grad(part, leaf) for part in (ours, expected)))


def test_a_constant_variance_is_mse_scaled_and_shifted() -> None:
    (mean, _), target = drawn(8)
    log_variance = torch.full((8,), 0.3, dtype=torch.float64).log()
    expected = losses.create("mse")(mean, target) / 0.6 + log_variance[0] / 2
    torch.testing.assert_close(GaussianNLLLoss()(Gaussian(mean, log_variance), target), expected)


def test_a_missing_target_of_weight_0_changes_nothing() -> None:
    (mean, log_variance), target = drawn(4)
    spoilt, weight = target.index_fill(0, torch.tensor([1]), torch.nan), torch.tensor([1.0, 0.0, 2.0, 1.0])
    kept = [0, 2, 3]
    expected = GaussianNLLLoss()(Gaussian(mean[kept], log_variance[kept]), target[kept], weight=weight[kept])
    torch.testing.assert_close(GaussianNLLLoss()(Gaussian(mean, log_variance), spoilt, weight=weight), expected)


def test_what_does_not_fit_is_refused() -> None:
    loss = GaussianNLLLoss()
    with refused(["Gaussian(mean", "got (3,) float32"]):
        loss(torch.zeros(3), torch.zeros(3))
    with refused(["mean has shape (3,)", "log_variance has shape (3, 1)"]):
        loss(Gaussian(torch.zeros(3), torch.zeros(3, 1)), torch.zeros(3))
    with refused(["log_variance", "NaN"]):
        loss(Gaussian(torch.zeros(3), torch.tensor([0.0, 1.0, -1.0]).log()), torch.zeros(3))  # of a variance below 0
