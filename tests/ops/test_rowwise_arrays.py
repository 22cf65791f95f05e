"""What a few given rows cost, in NumPy, equals the definition, and is left to torch where digits would be lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses import Pairs, Triplets
from losses.extend import EmbeddingLoss
from losses.ops.tiles.sizes import block_sizes, sizes

LOSSES: dict[str, Callable[[], EmbeddingLoss]] = {
    "triplet": losses.TripletLoss,
    "triplet, active": lambda: losses.TripletLoss(average="active", margin=0.4),
    "triplet, squared": lambda: losses.TripletLoss(distance="squared_euclidean", margin=3.0, average="all"),
    "triplet, cosine": lambda: losses.TripletLoss(distance="cosine", margin=0.3, average="all"),
    "contrastive": losses.ContrastiveLoss,
    "contrastive, power 1": lambda: losses.ContrastiveLoss(power=1, margin=3.0, positive_margin=0.5),
    "contrastive, squared": lambda: losses.ContrastiveLoss(distance="squared_euclidean", margin=5.0, average="active"),
    "contrastive, cosine": lambda: losses.ContrastiveLoss(distance="cosine", margin=0.5, average="all"),
    "cosine_embedding": lambda: losses.CosineEmbeddingLoss(margin=0.2),
}


def drawn(loss: EmbeddingLoss, rows: int, columns: int, seed: int = 0) -> tuple[Pairs | Triplets, Tensor | None]:
    random = torch.Generator().manual_seed(seed)
    count = 3 if isinstance(loss, losses.TripletLoss) else 2
    points = [torch.randn(rows, columns, generator=random, dtype=torch.float64).requires_grad_() for _ in range(count)]
    if count == 3:
        return Triplets(*points), None
    return Pairs(*points), torch.randint(2, (rows,), generator=random).bool()


def is_in_arrays(value: Tensor) -> bool:
    return value.grad_fn is not None and "Written" in value.grad_fn.name()


def right(loss: EmbeddingLoss, output: Any, target: Tensor | None, weight: Tensor | None) -> Tensor:
    return loss.definition_total(output, target, weight).mean()


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=20)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(2, 24),
    weighted=st.booleans(),
    factor=st.sampled_from([1.0, -2.5]),
    seed=st.integers(0, 999),
)
def test_both_ways_equal_the_definition(
    name: str, rows: int, columns: int, weighted: bool, factor: float, seed: int
) -> None:
    loss = LOSSES[name]()
    output, target = drawn(loss, rows, columns, seed)
    weight = torch.rand(rows, dtype=torch.float64).add(0.1) if weighted else None
    expected = right(loss, output, target, weight)
    slopes = torch.autograd.grad(factor * expected, output)
    for most in (sizes().rows_in_arrays, 0):
        with block_sizes(rows_in_arrays=most):
            value = loss(output, target, weight=weight)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        for got, wanted in zip(torch.autograd.grad(factor * value, output), slopes, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_a_few_rows_are_summed_in_numpy(name: str) -> None:
    loss = LOSSES[name]()
    output, target = drawn(loss, 16, 8)
    for weight in (None, torch.ones(16).double()):
        assert is_in_arrays(loss(output, target, weight=weight))


@pytest.mark.parametrize("name", LOSSES)
def test_they_can_be_differentiated_again_and_for_some_of_the_points(name: str) -> None:
    loss = LOSSES[name]()
    output, target = drawn(loss, 4, 3, 5)
    loss(output, target)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.25]).double()

    def value(*points: Tensor) -> Tensor:
        return loss(type(output)(*points), target, weight=weight)

    for place in range(len(output)):
        leaves = [part if part is output[place] else part.detach() for part in output]
        assert is_in_arrays(value(*leaves))
        assert torch.autograd.gradcheck(value, leaves, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(value, tuple(output))


def test_a_set_may_be_compared_with_itself_in_part() -> None:
    points = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    loss = losses.TripletLoss()
    triplets = Triplets(points, points.roll(1, 0), points.roll(2, 0))
    expected, value = right(loss, triplets, None, None), loss(triplets)
    torch.testing.assert_close(*(torch.autograd.grad(each, points)[0] for each in (value, expected)))


ENDS: dict[str, tuple[str, float, Callable[[Tensor], Tensor]]] = {
    "equal rows": ("contrastive", 1.0, lambda first: first.clone()),
    "one direction": ("cosine_embedding", 1.0, lambda first: 2 * first),
    "opposite directions": ("contrastive, cosine", 1.0, lambda first: -2 * first),
    "no direction": ("cosine_embedding", 1.0, torch.zeros_like),
    "far out": ("contrastive", 1e100, lambda first: -first),
    "close to 0": ("cosine_embedding", 1e-200, lambda first: first.roll(1, 0)),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_would_lose_digits_is_left_to_torch(end: str) -> None:
    name, scale, other = ENDS[end]
    loss = LOSSES[name]()
    (first, _), target = drawn(loss, 6, 5)
    first = (first.detach() * scale).requires_grad_()
    pairs = Pairs(first, other(first.detach()).requires_grad_())
    loss(pairs, target)
    value = loss(pairs, target)
    assert not is_in_arrays(value)
    assert all(bool(part.isfinite().all()) for part in torch.autograd.grad(value, pairs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_has_weight_0_is_hidden(bad: float, dtype: torch.dtype) -> None:
    for make in LOSSES.values():
        loss = make()
        output, target = drawn(loss, 6, 5)
        clean = type(output)(*(part.detach().to(dtype).requires_grad_() for part in output))
        loss(clean, target)
        weight = torch.tensor([1, 1, 0, 1, 1, 1], dtype=dtype)
        spoiled = type(output)(
            *(part.detach().clone().index_fill_(0, torch.tensor(2), bad).requires_grad_() for part in clean)
        )
        values = [loss(each, target, weight=weight) for each in (clean, spoiled)]
        torch.testing.assert_close(*values)
        for one, other in zip(*map(torch.autograd.grad, values, (clean, spoiled)), strict=True):
            torch.testing.assert_close(one, other)
            assert not other[2].any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "rows", "few"),
    [
        *(("contrastive", 256, True), ("contrastive", 257, False)),
        *(("cosine_embedding", 256, True), ("cosine_embedding", 257, False)),
        *(("triplet", 128, True), ("triplet", 129, False)),
    ],
)
def test_more_rows_are_summed_in_torch(name: str, rows: int, few: bool, weighted: bool) -> None:
    loss = LOSSES[name]()
    output, target = drawn(loss, rows, 128)
    weight = torch.ones(rows).double() if weighted else None
    assert is_in_arrays(loss(output, target, weight=weight)) == few


@pytest.mark.parametrize("parameters", [{"margin": "soft"}, {"swap": True}], ids=str)
def test_triplets_without_a_margin_or_with_a_swap_are_summed_in_torch(parameters: dict[str, Any]) -> None:
    loss = losses.TripletLoss(**parameters)
    assert not is_in_arrays(loss(*drawn(loss, 8, 3)))


def test_a_weight_that_learns_and_half_precision_go_another_way() -> None:
    loss = losses.ContrastiveLoss()
    output, target = drawn(loss, 6, 5)
    weight = torch.rand(6, dtype=torch.float64, requires_grad=True)
    (of_weight,) = torch.autograd.grad(loss(output, target, weight=weight), weight)
    assert of_weight.any()
    half = Pairs(*(part.detach().half().requires_grad_() for part in output))
    value = loss(half, target)
    torch.testing.assert_close(value, loss(Pairs(*(part.float() for part in half)), target))
