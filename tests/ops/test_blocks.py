"""The whole-batch losses in blocks against what they must equal: their plain compositions."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from losses.ops.tiles.blocks import Tiles
from losses.ops.triplets import hinge, soft
from tests.ops.tile_cases import (
    CASES,
    ONE_OF_EACH,
    TileCase,
    answers,
    assert_near,
    each_case,
    forget_reading,
    in_blocks,
    one_of_each,
    plainly,
    shrink,
    tile_batch,
    total,
)

SHAPES: list[tuple[int, str, int | None]] = [
    (0, "balanced", None),
    (1, "balanced", None),
    (2, "one", None),
    (2, "singletons", None),
    (3, "imbalanced", None),
    (7, "singletons", None),
    (10, "one", None),
    (33, "imbalanced", None),
    (64, "balanced", None),
    (0, "balanced", 3),
    (3, "balanced", 0),
    (1, "balanced", 6),
    (5, "singletons", 9),
    (40, "imbalanced", 17),
    (17, "balanced", 40),
]


WAYS = ["positive", "polynomial", "cells", "neighbours"]  # of a soft margin


def routes(case: TileCase) -> list[str]:
    """Return the ways through a kernel that there are."""
    if case.name == "triplet" and case.parameters["average"] == "all":
        return ["small_blocks", "dense"]  # nothing but another of the two counts
    found = ["default", "small_blocks", "accelerator", "dense"]
    if case.is_soft:
        return [*found, *WAYS]
    return (
        [*found, "sorted"]
        if case.name == "triplet" and set(case.parameters) == {"margin", "distance", "average"}
        else found
    )


@pytest.mark.parametrize(("case", "route"), [(case, route) for case in CASES for route in routes(case)], ids=str)
def test_blocks_equal_the_plain_composition(
    case: TileCase, route: str, made: list[Tiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    if route == "default":
        in_blocks(monkeypatch)
    elif route != "dense":
        shrink(monkeypatch)
    if route == "sorted":
        monkeypatch.setattr(hinge, "COMPARED_ONE_BY_ONE", 2)
    if route in WAYS:
        monkeypatch.setattr(soft, "quickest", lambda *_: route)
    if route == "accelerator":
        forget_reading(monkeypatch, by_loss=case.swaps)
    for number, (size, balance, others) in enumerate(SHAPES):
        if case.of_pairs and others is not None:
            continue
        batch = tile_batch(size, balance, others, weighted=bool(number % 2) == (route != "small_blocks"))
        made.clear()
        actual = answers(case, batch)
        if route != "dense":  # which leaves to blocks what it cannot do
            assert bool(made) != (case.swaps and (others is not None or route == "accelerator"))
        if made and route not in ("default", "dense") and size > 25:
            assert len(made[0].blocks) > 1
        with plainly():
            expected = answers(case, batch)
        assert_near(actual, expected, 1e-11)


@pytest.mark.parametrize("case", [case for case in CASES if "default" in routes(case)], ids=str)
def test_a_large_batch_in_blocks_equals_the_plain_composition(
    case: TileCase, made: list[Tiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks(monkeypatch)
    batch = tile_batch(200, "imbalanced", weighted=True, dimension=7)
    actual = answers(case, batch)
    assert made[0].height == made[0].width or case.of_pairs
    with plainly():
        assert_near(actual, answers(case, batch), 1e-11)


@pytest.mark.parametrize("route", ["default", "small_blocks"])
@each_case
def test_blocks_in_single_precision_are_as_exact_as_it_is(
    case: TileCase, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if route == "small_blocks":
        shrink(monkeypatch)
    for size, balance, others, weighted in [
        (2, "one", None, False),
        (24, "balanced", None, True),
        (40, "imbalanced", None, False),
        (12, "balanced", 21, True),
    ]:
        if case.of_pairs and others is not None:
            continue
        batch = tile_batch(size, balance, others, weighted=weighted)
        rounded = batch._replace(embeddings=batch.embeddings.float().double())
        if rounded.reference is not None:
            rounded = rounded._replace(reference=(rounded.reference[0].float().double(), rounded.reference[1]))
        with plainly():
            expected = answers(case, rounded)
        assert_near(answers(case, rounded, torch.float32), expected, 1e-5)


@each_case
def test_on_an_accelerator_the_loss_itself_takes_the_same_value(
    case: TileCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = tile_batch(30, "imbalanced", weighted=True)
    expected = answers(case, batch)
    forget_reading(monkeypatch)
    assert_near(answers(case, batch), expected, 1e-11)


@pytest.fixture
def empty_is_nan() -> Iterator[None]:
    """Fill memory that nobody has written to with NaN, as torch does where all has to be deterministic."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("route", ["default", "small_blocks"])
@each_case
@pytest.mark.usefixtures("empty_is_nan")
def test_no_buffer_is_read_before_it_is_written(case: TileCase, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.empty(3).isnan().all()
    if route == "small_blocks":
        shrink(monkeypatch)
    for size, balance, others in ((12, "imbalanced", None), (9, "singletons", 14), (3, "balanced", 0)):
        if not (case.of_pairs and others is not None):
            assert all(
                answer.isfinite().all() for answer in answers(case, tile_batch(size, balance, others, weighted=True))
            )


@one_of_each
def test_a_weight_may_ask_for_a_gradient(case: TileCase) -> None:
    batch = tile_batch(12, weighted=True)
    weight = (batch.weight + 0.1).requires_grad_() if batch.weight is not None else None
    assert weight is not None
    result = total(case, batch._replace(weight=weight))
    (gradient,) = torch.autograd.grad(result.sum.sum(), weight)
    assert gradient.any()
    ones = torch.eye(12, dtype=torch.float64)
    # the sum is linear in the weights
    each = torch.stack([total(case, batch._replace(weight=one)).sum.sum() for one in ones])
    assert_near([gradient], [each], 1e-11)


def test_blocks_hold_every_row_once_and_may_be_uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    points = torch.randn(22, 3, dtype=torch.float64)
    found = [
        (tile.rows.start, tile.rows.stop, tile.values.clone())
        for tile in Tiles(points, points[:20] + 9, "squared_euclidean")
    ]
    assert [(start, stop) for start, stop, _ in found] == [(0, 7), (7, 14), (14, 21), (21, 22)]
    expected = (points.unsqueeze(1) - points[:20] - 9).square().sum(2)
    torch.testing.assert_close(torch.cat([values for *_, values in found]), expected)


@pytest.mark.parametrize("asking", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if not case.of_pairs and not case.swaps], ids=str)
def test_only_a_set_that_asks_for_a_gradient_gets_one(
    case: TileCase, asking: tuple[bool, bool], made: list[Tiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks(monkeypatch)
    batch = tile_batch(12, others=15)
    assert batch.reference is not None
    gradients, values = [], []
    for route in (nullcontext(), plainly()):
        first, second = (
            batch.embeddings.clone().requires_grad_(asking[0]),
            batch.reference[0].clone().requires_grad_(asking[1]),
        )
        with route:
            result = total(case, batch._replace(embeddings=first, reference=(second, batch.reference[1]))).sum.sum()
        assert result.requires_grad == any(asking)
        if any(asking):
            result.backward()
        gradients.append([first.grad, second.grad])
        values.append(result.detach())
    torch.testing.assert_close(*values)
    for wanted, mine, other in zip(asking, *gradients, strict=True):
        assert (mine is not None) == (other is not None) == wanted
        if mine is not None and other is not None:
            assert_near([mine], [other], 1e-11)
    if case.parameters.get("mining") == "hard":
        return  # chosen in blocks, computed one by one
    assert made[0].differentiable == any(asking)
    if any(asking):
        assert made[0].of_first.any() == asking[0]
        assert made[0].of_second.any() == asking[1]
