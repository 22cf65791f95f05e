"""Logarithms of sums: by hand they equal their definition; and what happens where nothing is summed."""

import pytest
import torch

from losses.ops.numerics import log_one_plus_sum as module
from losses.ops.numerics import searching
from losses.ops.numerics.log_one_plus_sum import definition, log_one_plus_sum
from losses.ops.numerics.log_space import masked_log_sum

SCALES = [(1.0, 0.0), (50.0, 0.5), (-2.0, 0.5), (1e4, -1.0), (-1e-3, 1e3)]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize(("scale", "base"), SCALES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_by_hand_it_equals_the_definition_in_value_and_gradient(
    scale: float, base: float, dtype: torch.dtype, tolerance: float
) -> None:
    values = drawn(7, 5, dtype=dtype)
    slopes = torch.linspace(-1, 2, 7, dtype=dtype)
    found, expected = log_one_plus_sum(values, scale, base), definition(values, scale, base)
    assert found.grad_fn is not None and "Fused" in type(found.grad_fn).__name__
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(value, values, slopes, retain_graph=True)[0] for value in (found, found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)  # a second backward is the first
    torch.testing.assert_close(gradients[0], gradients[2], rtol=tolerance, atol=tolerance * abs(scale))


@pytest.mark.parametrize(("scale", "base"), SCALES[:3])
def test_its_derivatives_equal_finite_differences(scale: float, base: float) -> None:
    values = drawn(3, 4)
    assert torch.autograd.gradcheck(lambda v: log_one_plus_sum(v, scale, base), values)
    assert torch.autograd.gradgradcheck(lambda v: log_one_plus_sum(v, scale, base), values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_infinitely_good_adds_nothing(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.5, -torch.inf], [-torch.inf, -torch.inf]], dtype=dtype, requires_grad=True)
    result = log_one_plus_sum(values, 2.0)
    torch.testing.assert_close(result, torch.tensor([1.3132616875182228, 0], dtype=dtype))  # log(1 + e)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    torch.testing.assert_close(gradient, torch.tensor([[2 * 0.7310585786300049, 0], [0, 0]], dtype=dtype))


def test_it_is_finite_far_out() -> None:
    values = torch.tensor([[1e4, -1e4], [-1e4, -1e4]], requires_grad=True)
    result = log_one_plus_sum(values, 100.0)
    assert result.tolist() == [1e6, 0]
    assert torch.autograd.grad(result.sum(), values)[0].tolist() == [[100, 0], [0, 0]]


def test_transforms_and_compilers_get_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, "Fused")
    values = drawn(3, 4)
    expected = torch.autograd.grad(definition(values, 2.0, 0.5).sum(), values)[0]
    torch.testing.assert_close(torch.func.grad(lambda v: log_one_plus_sum(v, 2.0, 0.5).sum())(values), expected)
    torch.testing.assert_close(log_one_plus_sum(values.detach(), 2.0, 0.5), definition(values.detach(), 2.0, 0.5))


def test_a_sum_of_nothing_is_zero_without_a_gradient() -> None:
    logits = drawn(3, 4)
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    result = masked_log_sum(logits, mask)
    expected = [logits[0, [0, 2]].logsumexp(0), torch.zeros((), dtype=torch.float64), logits[2].logsumexp(0)]
    torch.testing.assert_close(result, torch.stack(expected))
    assert torch.autograd.gradcheck(lambda values: masked_log_sum(values, mask), logits)
    assert torch.autograd.gradgradcheck(lambda values: masked_log_sum(values, mask), logits)


@pytest.mark.parametrize("right", [False, True])
def test_a_program_finds_what_a_search_finds_at_ties_and_at_infinity(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.tensor([[-torch.inf, 0.0, 0.0, 1.0, torch.inf], [1.0, 1.0, 1.0, 1.0, 1.0]])
    values = torch.tensor([[0.0, 1.0, -torch.inf, torch.inf, 0.5, -3.0], [1.0, 0.0, 2.0, 1.0, -torch.inf, torch.inf]])
    found = searching.searchsorted(rows, values, right=right)
    monkeypatch.setattr(searching, "is_exporting", lambda: True)
    assert torch.equal(searching.searchsorted(rows, values, right=right), found)
    assert searching.searchsorted(rows[:, :0], values).sum() == 0
