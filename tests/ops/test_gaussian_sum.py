"""The divergence of Gaussians as one sum equals its definition, and leaves to it what it cannot answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.generative.elbo import gaussian_kl
from losses.ops.elementwise import gaussian
from losses.ops.elementwise.gaussian import gaussian_kl_sum
from tests.operations import operations
from tests.ops.tile_cases import without_torchs_own_remarks


def drawn(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    mean, log_variance = 3 * torch.randn(2, rows, columns, generator=random, dtype=torch.float64)
    return mean.clone().requires_grad_(), log_variance.clone().requires_grad_()


def summed(mean: Tensor, log_variance: Tensor) -> Tensor:
    total = gaussian_kl_sum(gaussian_kl, mean, log_variance)
    assert total is not None
    return total


@settings(deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 40), seed=st.integers(0, 1000))
def test_value_and_gradients_equal_the_definition(rows: int, columns: int, seed: int) -> None:
    batch = drawn(rows, columns, seed)
    value, right = summed(*batch), gaussian_kl(*batch).sum()
    torch.testing.assert_close(value, right, rtol=1e-12, atol=1e-12)
    for got, expected in zip(torch.autograd.grad(value, batch), torch.autograd.grad(right, batch), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_it_can_be_differentiated_again_and_several_times_at_once() -> None:
    assert torch.autograd.gradcheck(summed, drawn(3, 2), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(summed, drawn(3, 2))
    value = summed(*(batch := drawn(3, 2)))
    first = torch.autograd.grad(value, batch, retain_graph=True)
    for got, expected in zip(torch.autograd.grad(-2 * value, batch), first, strict=True):
        torch.testing.assert_close(got, -2 * expected)


def beside_others(missed: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    total = gaussian_kl_sum(gaussian_kl, mean, log_variance, beside=missed.sum(), beta=0.3, divisor=7.0)
    assert total is not None
    return total


@settings(deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 40), seed=st.integers(0, 1000))
def test_something_beside_it_is_summed_with_it(rows: int, columns: int, seed: int) -> None:
    batch = (drawn(2, 3, seed + 1)[0], *drawn(rows, columns, seed))
    value = beside_others(*batch)
    right = (batch[0].sum() + 0.3 * gaussian_kl(*batch[1:]).sum()) / 7
    torch.testing.assert_close(value, right, rtol=1e-12, atol=1e-12)
    of_value, of_right = (torch.autograd.grad(-2 * each, batch) for each in (value, right))
    for got, expected in zip(of_value, of_right, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("asked", [(0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_with_something_beside_it_each_gradient_may_be_asked_alone_and_again(asked: tuple[int, ...]) -> None:
    batch = (drawn(2, 3, 5)[0], *drawn(3, 2))
    leaves = [part if place in asked else part.detach() for place, part in enumerate(batch)]
    assert torch.autograd.gradcheck(beside_others, leaves, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(beside_others, leaves)


def test_something_beside_it_that_is_not_finite_or_of_another_dtype_is_left_to_the_definition() -> None:
    mean, log_variance = drawn(3, 2)
    for beside in (torch.tensor(torch.inf).double(), torch.tensor(torch.nan).double(), torch.tensor(1.0)):
        assert gaussian_kl_sum(gaussian_kl, mean, log_variance, beside=beside) is None


def test_mean_and_log_variance_may_be_one_tensor() -> None:
    both = drawn(3, 2)[0]
    (got,) = torch.autograd.grad(summed(both, both), both, create_graph=True)
    (expected,) = torch.autograd.grad(gaussian_kl(both, both).sum(), both)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("value", [80.0, 1e4, torch.inf, torch.nan])
def test_variances_beyond_all_numbers_are_left_to_the_definition(value: float) -> None:
    assert gaussian_kl_sum(gaussian_kl, torch.zeros(3), torch.tensor([0.0, value, 0.0])) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_so_is_half_precision(dtype: torch.dtype) -> None:
    assert gaussian_kl_sum(gaussian_kl, torch.zeros(3), torch.zeros(3, dtype=dtype)) is None


@without_torchs_own_remarks
def test_so_are_transforms_and_tangents() -> None:
    mean, log_variance = (part.detach() for part in drawn(3, 2))
    loss = losses.create("elbo")

    def value(mean: Tensor) -> Tensor:
        return loss(losses.VAEOutput(torch.zeros(3, 4, dtype=torch.float64), mean, log_variance), torch.zeros(3, 4))

    torch.testing.assert_close(torch.func.grad(value)(mean), mean / 3)
    with torch.autograd.forward_ad.dual_level():
        tangent = torch.autograd.forward_ad.unpack_dual(
            value(torch.autograd.forward_ad.make_dual(mean, torch.ones_like(mean)))
        ).tangent
    torch.testing.assert_close(tangent, mean.sum() / 3)


@pytest.mark.parametrize("parameters", [{"free_bits": 0.1}, {"capacity": 0.5}])
def test_what_is_no_plain_sum_goes_by_the_definition(
    parameters: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaussian.GaussianSum, "apply", lambda *_: pytest.fail("as a sum"))
    mean, log_variance = drawn(3, 2)
    losses.create("elbo", **parameters)(losses.VAEOutput(torch.zeros(3, 4), mean, log_variance), torch.zeros(3, 4))


def test_operations_of_a_small_batch_are_few() -> None:
    mean, log_variance = drawn(4, 3)
    assert operations(lambda: summed(mean, log_variance)) <= 16
