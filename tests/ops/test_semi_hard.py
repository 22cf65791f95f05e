"""Which negative is semi-hard: told by distances in float64 whatever the precision of the embeddings, and by nothing
that is only rounding."""

from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.ops.triplets import semi_hard
from tests.ops.tile_cases import DISTANCES, assert_near, plainly

each_distance = pytest.mark.parametrize("distance", DISTANCES)


def answers(embeddings: Tensor, labels: Tensor, **parameters: Any) -> tuple[Tensor, Tensor]:
    """Return sum and gradient."""
    leaf = embeddings.detach().requires_grad_()
    value = losses.create("triplet", mining="semi_hard", reduction="sum", **parameters)(leaf, labels)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("dimension", [2, 16, 128])
@pytest.mark.parametrize("per_class", [5, 100, 750])
@each_distance
def test_single_precision_chooses_as_double_precision_does(distance: str, per_class: int, dimension: int) -> None:
    """Of 1500 rows, in float32 up to all would get another gradient by a distance that is off in its last digits."""
    random = torch.Generator().manual_seed(dimension + per_class)
    embeddings, labels = torch.randn(1500, dimension, generator=random), torch.arange(1500) // per_class
    parameters = {"distance": distance, "margin": 0.2}
    value, gradient = answers(embeddings, labels, **parameters)
    exact, of_exact = answers(embeddings.double(), labels, **parameters)
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    size = of_exact.norm(dim=1).clamp(min=float(of_exact.norm(dim=1).mean()))
    differing = (gradient - of_exact).norm(dim=1) > 1e-5 * size
    assert not differing.any()


@pytest.mark.parametrize("route", ["one_by_one", "sorted"])
@each_distance
def test_in_single_precision_blocks_choose_as_the_plain_composition_does(
    distance: str, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semi_hard, "SEARCHED_ONE_BY_ONE", 10**6 if route == "one_by_one" else 0)
    random = torch.Generator().manual_seed(3)
    embeddings, labels = torch.randn(600, 8, generator=random), torch.arange(600) % 20
    found = answers(embeddings, labels, distance=distance)
    with plainly():
        expected = answers(embeddings, labels, distance=distance)
    assert_near([*found], [*expected], 1e-6, rows=True)


def lattice(size: int, dtype: torch.dtype, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Return points of which nearly all tie with others, many of them duplicates, and labels."""
    random = torch.Generator().manual_seed(size)
    points = torch.randint(0, 4, (size, 3), generator=random) + offset
    return points.to(dtype), torch.randint(0, size // 6 + 1, (size,), generator=random)


def by_integers(points: Tensor, labels: Tensor, distance: str, margin: float) -> float:
    """Return the sum over semi-hard triplets, chosen by squared distances that are integers."""
    squared = (points.long().unsqueeze(1) - points.long()).square().sum(2).tolist()
    measured = {"euclidean": lambda square: square**0.5, "squared_euclidean": float}[distance]
    total, classes = 0.0, labels.tolist()
    for anchor, row in enumerate(squared):
        negatives = [square for square, label in zip(row, classes, strict=True) if label != classes[anchor]]
        for other, near in enumerate(row):
            if other != anchor and classes[other] == classes[anchor] and negatives:
                far = min((square for square in negatives if square > near), default=max(negatives))
                total += max(0.0, measured(near) - measured(far) + margin)
    return total


@pytest.mark.parametrize("plain", [False, True], ids=["blocks", "plain"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize(("size", "offset"), [(12, 0), (60, 100), (150, 0), (300, 100)])
def test_a_negative_as_near_as_the_positive_is_not_farther(
    size: int, offset: int, distance: str, dtype: torch.dtype, plain: bool
) -> None:
    points, labels = lattice(size, dtype, offset)
    expected = by_integers(points, labels, distance, margin=1.5)
    with plainly() if plain else nullcontext():
        value, gradient = answers(points, labels, distance=distance, margin=1.5)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("plain", [False, True], ids=["blocks", "plain"])
@pytest.mark.parametrize("others", [0, 200])  # more than are computed in float64 for being few
@pytest.mark.parametrize(
    ("dtype", "ahead"),
    [(torch.float64, 1e-10), (torch.float32, 2**-23), (torch.bfloat16, 2**-7), (torch.float16, 2**-10)],
    ids=str,
)
def test_a_negative_farther_by_the_last_digit_is_farther(
    dtype: torch.dtype, ahead: float, others: int, plain: bool
) -> None:
    """The positive at 1, negatives at 1 + ahead and 2: the first of them is taken, at 1 - (1 + ahead) + 4."""
    points = torch.cat([torch.tensor([0.0, 1.0, 1.0 + ahead, 2.0], dtype=dtype), torch.full((others,), 90.0).to(dtype)])
    labels = torch.tensor([0, 0, 1, 1, *range(2, others + 2)])
    weight = torch.zeros(len(points))
    weight[0] = 1
    with plainly() if plain else nullcontext():
        loss = losses.create("triplet", mining="semi_hard", margin=4.0, reduction="sum")
        leaf = points.unsqueeze(1).requires_grad_()
        value = loss(leaf, labels, weight=weight)
        (gradient,) = torch.autograd.grad(value, leaf)
    assert value.item() == pytest.approx(float(4 - Fraction(points[2].item()) + 1), rel=1e-7)
    assert gradient[2].item() == pytest.approx(-1, rel=1e-6)
    assert gradient[3] == 0


@pytest.mark.parametrize("extent", [1.0, 1e-3, 1e3])
def test_duplicates_in_a_tight_cluster_far_from_others_tie(extent: float) -> None:
    """A product is rounded by the size of the whole batch; a negative that is the positive itself is not farther."""
    random = torch.Generator().manual_seed(5)
    for dtype in (torch.float64, torch.float32):
        cluster = torch.randn(4, 5, generator=random, dtype=torch.float64) * 1e-3
        far = torch.randn(80, 5, generator=random, dtype=torch.float64) + 10
        points = (torch.cat([cluster[[0, 1, 1, 2]], far]) * extent).to(dtype)
        labels = torch.tensor([0, 0, 1, 2, *range(3, 83)])
        distances = (points[:1].double() - points.double()).norm(dim=1)
        beyond = distances[3:][distances[3:] > distances[1]].amin()
        weight = torch.zeros(len(points))
        weight[0] = 1
        loss = losses.create("triplet", mining="semi_hard", margin=1e5, reduction="sum")
        expected = distances[1] - beyond + 1e5
        assert loss(points, labels, weight=weight).item() == pytest.approx(expected.item(), rel=1e-7)
