"""Rows in order by NumPy are those of torch, with their gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from losses.ops.transport.sorting import in_order, in_order_with_index, sorts_in_numpy

SHAPES = [(7,), (3, 8), (2, 3, 40), (0, 4), (3, 0), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_points_are_in_the_order_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    points = torch.randn(shape, dtype=dtype).requires_grad_()
    expected, order = points.sort(-1)
    factors = torch.randn(shape, dtype=dtype)
    values, index = in_order_with_index(points)
    assert torch.equal(index, order)
    for found in (in_order(points), values):
        assert torch.equal(found, expected)
        (got,), (right,) = (
            torch.autograd.grad((each * factors).sum(), points, retain_graph=True) for each in (found, expected)
        )
        assert torch.equal(got, right)
    assert torch.equal(in_order(points.detach()), expected)


def test_nan_comes_last_and_memory_may_lie_as_it_likes() -> None:
    points = torch.randn(4, 5)
    points[1, 2], points[0, 0], points[0, 1] = torch.nan, torch.inf, -torch.inf
    for each in (points, points.t(), points.expand(2, 4, 5), points[:, ::2]):
        assert sorts_in_numpy(each)
        torch.testing.assert_close(in_order(each), each.sort(-1).values, equal_nan=True)
        leaf = each.detach().requires_grad_()
        torch.testing.assert_close(in_order(leaf), each.sort(-1).values, equal_nan=True)


def test_it_can_be_differentiated_again() -> None:
    points = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(in_order, points, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(in_order, points)


def test_transformed_points_and_those_of_others_are_left_to_torch() -> None:
    points = torch.randn(3, 5)

    class Other(Tensor):
        pass

    assert not sorts_in_numpy(points.as_subclass(Other))
    assert not sorts_in_numpy(points.half())
    assert not sorts_in_numpy(torch.tensor(1.0))
    assert torch.equal(torch.func.vmap(in_order)(points), points.sort(-1).values)
