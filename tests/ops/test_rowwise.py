"""Pairs and triplets that are given: summed in one operation of autograd, equal to the definition, in few
operations."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.ops import rowwise
from losses.ops.tiles.sizes import block_sizes
from tests.operations import operations

FEW, FEW_BY_AUTOGRAD, FEW_OF_COSINES = 35, 65, 70  # operations, forward and backward


class Given(NamedTuple):
    """A loss of pairs or of triplets that are given."""

    name: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.parameters.values())])

    @property
    def sets(self) -> int:
        return 3 if self.name == "triplet" else 2

    def __call__(self, points: list[Tensor], **rest: Any) -> Tensor:
        loss = losses.create(self.name, **self.parameters)
        return self.of(loss, points, **rest)

    def of(self, loss: Any, points: list[Tensor], **rest: Any) -> Any:
        if self.sets == 2:
            return loss(losses.Pairs(*points), torch.arange(len(points[0])) % 2, **rest)
        return loss(losses.Triplets(*points), **rest)


CASES = [
    *(
        Given("contrastive", {"power": power, "average": average, "distance": distance, "positive_margin": near})
        for power in (1, 2)
        for average in ("all", "active", "balanced")
        for distance in ("euclidean", "squared_euclidean", "cosine")
        for near in (0.0, 0.4)
    ),
    *(
        Given("triplet", {"margin": margin, "average": average, "distance": distance, "swap": swap})
        for margin in (0.7, "soft")
        for average in ("all", "active")
        for distance in ("euclidean", "squared_euclidean", "cosine")
        for swap in (False, True)
    ),
    Given("cosine_embedding", {"margin": -0.3}),
]
ONE_OF_EACH = [
    Given("contrastive", {}),
    Given("contrastive", {"average": "active", "power": 1}),
    Given("triplet", {"margin": 0.7}),
    Given("triplet", {"margin": 0.7, "swap": True, "distance": "squared_euclidean"}),
    Given("triplet", {"margin": 0.7, "distance": "cosine"}),
    Given("cosine_embedding", {}),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)


@contextmanager
def plainly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowwise, "is_eager", lambda *_: False)
        patch.delattr(rowwise, "lengths_of")
        patch.delattr(rowwise, "directions_of")
        yield


def points_of(case: Given, size: int = 6, dimension: int = 3, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(1000 * size + seed)
    return list(torch.randn(case.sets, size, dimension, generator=random, dtype=torch.float64).div(2).unbind())


def leaves_of(points: list[Tensor]) -> list[Tensor]:
    return [part.detach().clone().requires_grad_() for part in points]


def value_and_gradients(case: Given, points: list[Tensor], above: float = 1.0, **rest: Any) -> list[Tensor]:
    leaves = leaves_of(points)
    value = case(leaves, **rest)
    return [value.detach(), *torch.autograd.grad(value, leaves, torch.full_like(value, above))]


@each_case
@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(0, 40),
    dimension=st.integers(1, 9),
    weighted=st.booleans(),
    equal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_equal_the_definition(
    case: Given, size: int, dimension: int, weighted: bool, equal: bool, seed: int
) -> None:
    points = points_of(case, size, dimension, seed)
    if equal and size:
        points[1][0] = points[0][0]
    weight = torch.linspace(0, 2, size, dtype=torch.float64) if weighted else None
    actual = value_and_gradients(case, points, -0.7, weight=weight)
    with plainly():
        expected = value_and_gradients(case, points, -0.7, weight=weight)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@one_of_each
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-12, 1e12, 1e20, 1e30])
def test_distances_whose_squares_leave_the_range_are_measured(case: Given, scale: float) -> None:
    points = [(part * scale).float() for part in points_of(case)]
    actual = value_and_gradients(case, points)
    with plainly():
        expected = value_and_gradients(case, points)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@example(size=1, angle=3.1416, nothing=False, seed=286)
@given(
    size=st.integers(1, 40),
    angle=st.sampled_from([0.0, 1e-12, 1e-7, 1e-4, 1e-3, 0.01, 0.014, 0.02, 0.1, 1.0, 3.1416]),
    nothing=st.booleans(),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("name", ["cosine_embedding", "triplet"])
def test_directions_that_lie_close_are_told_apart_in_float32(
    name: str, size: int, angle: float, nothing: bool, seed: int
) -> None:
    """Some of the rows at an angle, in strips, and perhaps one without a direction: as the definition in float64."""
    case = Given(name, {"distance": "cosine", "margin": 0.3} if name == "triplet" else {"margin": 0.1})
    points = points_of(case, size, 5, seed)
    length = points[0].norm(dim=-1, keepdim=True)
    near = points[0] * torch.cos(torch.tensor(angle)) + points[1].sub(
        points[0] * (points[0] * points[1]).sum(-1, keepdim=True) / length.square()
    ).mul(torch.sin(torch.tensor(angle)))
    points[1] = torch.where(torch.arange(size).unsqueeze(-1) % 3 < 2, near, points[1])
    if nothing:
        points[0][0] = 0
    points = [part.float() for part in points]
    with block_sizes(strip=32):
        actual = value_and_gradients(case, points)
    with plainly():
        expected = value_and_gradients(case, [part.double() for part in points])
    lengths = torch.cat([part.norm(dim=-1) for part in points])  # a gradient is as long as a point is short
    shortest = min(1.0, float(lengths[lengths > 0].min()))
    torch.testing.assert_close(actual, [part.float() for part in expected], rtol=2e-5, atol=3e-7 / shortest)


@one_of_each
def test_forward_and_backward_are_few_operations(case: Given) -> None:
    loss, leaves = losses.create(case.name, **case.parameters), leaves_of(points_of(case))
    case.of(loss, leaves)  # the first batch is looked at
    most = FEW_OF_COSINES if loss.measure == "cosine" else FEW_BY_AUTOGRAD if loss.config().get("swap") else FEW
    assert operations(lambda: case.of(loss, leaves)) <= most


@one_of_each
def test_what_has_weight_0_changes_nothing(case: Given) -> None:
    points, weight = points_of(case), torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 1.0])
    expected = value_and_gradients(case, points, weight=weight)
    points[0][2] = torch.nan
    torch.testing.assert_close(value_and_gradients(case, points, weight=weight), expected)


@one_of_each
def test_the_second_derivative_is_that_of_the_definition(case: Given) -> None:
    results = []
    for route in (nullcontext(), plainly()):
        leaves = leaves_of(points_of(case))
        with route:
            gradients = torch.autograd.grad(case(leaves), leaves, create_graph=True)
            results.append(torch.autograd.grad(sum(part.square().sum() for part in gradients), leaves))
    torch.testing.assert_close(*results)


@one_of_each
def test_gradients_of_several_losses_at_once(case: Given) -> None:
    leaves = leaves_of(points_of(case))
    value = case(leaves)
    several = torch.autograd.grad(value, leaves, torch.tensor([1.0, -2.0]).double(), is_grads_batched=True)
    single = value_and_gradients(case, points_of(case))[1:]
    torch.testing.assert_close(several, tuple(torch.stack([part, -2 * part]) for part in single))


@one_of_each
def test_a_graph_is_kept_if_asked_for_and_freed_otherwise(case: Given) -> None:
    leaves = leaves_of(points_of(case))
    value = case(leaves)
    once, again = (torch.autograd.grad(value, leaves, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    value.backward()
    torch.testing.assert_close(tuple(leaf.grad for leaf in leaves), once, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


@one_of_each
def test_points_may_lie_anyhow_in_memory_and_are_left_as_they_are(case: Given) -> None:
    points = points_of(case)
    kept = [part.clone() for part in points]
    scattered = [part.mT.contiguous().mT for part in points]
    assert not scattered[0].is_contiguous()
    leaves = [part.requires_grad_() for part in scattered]
    actual = torch.autograd.grad(case(leaves), leaves)
    torch.testing.assert_close(list(actual), value_and_gradients(case, points)[1:])
    torch.testing.assert_close([leaf.detach() for leaf in leaves], kept, rtol=0, atol=0)


@one_of_each
def test_only_points_that_ask_for_a_gradient_get_one(case: Given) -> None:
    expected = value_and_gradients(case, points_of(case))[1:]
    for asking in range(case.sets):
        points = points_of(case)
        points[asking].requires_grad_()
        case(points).backward()
        assert [part.grad is not None for part in points] == [place == asking for place in range(case.sets)]
        torch.testing.assert_close(points[asking].grad, expected[asking])
    assert not case(points_of(case)).requires_grad


@one_of_each
def test_one_set_may_be_made_of_another(case: Given) -> None:
    results = []
    for route in (nullcontext(), plainly()):
        (first, *_) = leaves_of(points_of(case))
        with route:
            value = case([first, *(first * (2 + place) for place in range(case.sets - 1))])
            results.append(torch.autograd.grad(value, first)[0])
    torch.testing.assert_close(*results)


@one_of_each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(case: Given, dtype: torch.dtype) -> None:
    points = [part.to(dtype) for part in points_of(case)]
    actual = value_and_gradients(case, points)
    assert actual[0].dtype is torch.float32
    expected = value_and_gradients(case, [part.float() for part in points])
    torch.testing.assert_close(actual[0], expected[0])
    for mine, other in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine, other.to(dtype))
