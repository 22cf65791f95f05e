"""What the tests of pytorch-metric-learning hold five of its losses to, of ours through as_pml, and where conventions
differ. Expected values are loops over pairs and triplets, written from the formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.adapters.pml import as_pml
from tests.refusals import refused

LABELS = [0, 0, 1, 1, 2]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FIVE: dict[str, dict[str, Any]] = {
    "contrastive": {"power": 1, "average": "balanced", "margin": 1.5, "positive_margin": 0.25},
    "triplet": {"margin": 0.2},
    "multi_similarity": {"alpha": 0.5, "beta": 10.0, "base": 0.5},
    "circle": {"margin": 0.25, "scale": 16.0},
    "info_nce": {"temperature": 0.5},
    "supervised_contrastive": {"temperature": 0.5},
}


def at_angles(degrees: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """Return points on the unit circle."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1).to(dtype).requires_grad_()


def built(name: str, **parameters: Any) -> Any:
    return as_pml(losses.create(name, **{**FIVE[name], **parameters}))


Sides = dict[int, tuple[list[Tensor], list[Tensor]]]


def measured(points: Tensor, others: Tensor | None, measure: Callable[[Tensor, Tensor], Tensor]) -> Sides:
    """Return what every anchor measures to its positives and to its negatives."""
    columns = points if others is None else others
    names = LABELS if others is None else [0, 1, 2]
    sides: Sides = {anchor: ([], []) for anchor in range(len(points))}
    for anchor, row in enumerate(points):
        for other, column in enumerate(columns):
            if others is not None or anchor != other:
                sides[anchor][LABELS[anchor] != names[other]].append(measure(row, column))
    return sides


def distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().sum().sqrt()


def similarity(first: Tensor, second: Tensor) -> Tensor:
    return first @ second


def average(items: list[Tensor]) -> Tensor:
    """Return the mean of what still costs something."""
    costly = [item for item in items if item > 0]
    return torch.stack(costly).mean() if costly else torch.zeros((), dtype=torch.float64)


def contrastive(sides: Sides) -> Tensor:
    positives = [(value - 0.25).relu() for near, _ in sides.values() for value in near]
    return average(positives) + average([(1.5 - value).relu() for _, far in sides.values() for value in far])


def triplet(sides: Sides) -> Tensor:
    return average([(p - n + 0.2).relu() for near, far in sides.values() for p in near for n in far])


def multi_similarity(sides: Sides) -> Tensor:
    items = []
    for near, far in sides.values():
        positives = sum((torch.exp(-0.5 * (value - 0.5)) for value in near), torch.zeros(()))
        negatives = sum((torch.exp(10 * (value - 0.5)) for value in far), torch.zeros(()))
        items.append(torch.log(1 + positives) / 0.5 + torch.log(1 + negatives) / 10)
    return torch.stack(items).mean()


def circle(sides: Sides) -> Tensor:
    items = []
    for near, far in sides.values():
        if near and far:
            positives = sum(torch.exp(-16 * (1.25 - value).relu() * (value - 0.75)) for value in near)
            negatives = sum(torch.exp(16 * (value + 0.25).relu() * (value - 0.25)) for value in far)
            items.append(torch.log(1 + positives * negatives))
    return torch.stack(items).mean()


def info_nce(sides: Sides) -> Tensor:
    items = []
    for near, far in sides.values():
        for value in near:
            everything = torch.exp(value / 0.5) + sum(torch.exp(other / 0.5) for other in far)
            items.append(torch.log(everything) - value / 0.5)
    return torch.stack(items).mean()


def supervised_contrastive(sides: Sides) -> Tensor:
    items = []
    for near, far in sides.values():
        everything = torch.log(sum((torch.exp(value / 0.5) for value in near + far), torch.zeros(())))
        if near:
            items.append(torch.stack([everything - value / 0.5 for value in near]).mean())
    return torch.stack(items).mean()


EXPECTED = {
    "contrastive": (contrastive, distance),
    "triplet": (triplet, distance),
    "multi_similarity": (multi_similarity, similarity),
    "circle": (circle, similarity),
    "info_nce": (info_nce, similarity),
    "supervised_contrastive": (supervised_contrastive, similarity),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("beside", [None, [10.0, 50.0, 120.0]], ids=["alone", "with ref_emb"])
@pytest.mark.parametrize("name", FIVE)
def test_values_are_those_of_the_formula(name: str, beside: list[float] | None, dtype: torch.dtype) -> None:
    points = at_angles([0.0, 20.0, 40.0, 60.0, 80.0], dtype)
    others = None if beside is None else at_angles(beside, dtype).detach()
    given = {} if others is None else {"ref_emb": others, "ref_labels": torch.tensor([0, 1, 2])}
    value = built(name)(points, torch.tensor(LABELS), **given)
    formula, measure = EXPECTED[name]
    rounded = points.detach().double(), None if others is None else others.double()
    if measure is similarity:  # cosines of points that rounding has moved off the circle
        rounded = tuple(None if each is None else torch.nn.functional.normalize(each) for each in rounded)  # type: ignore[assignment]
    expected = formula(measured(*rounded, measure))  # type: ignore[arg-type]
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    value.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "labels"),
    [(name, [0]) for name in FIVE]
    + [(name, [0, 1, 2]) for name in ("triplet", "circle", "info_nce", "supervised_contrastive")]
    + [(name, [0, 0, 0]) for name in ("triplet", "circle", "info_nce")],
    ids=str,
)
def test_nothing_to_compare_is_0_and_has_a_backward(name: str, labels: list[int], dtype: torch.dtype) -> None:
    points = at_angles([0.0, 40.0, 60.0][: len(labels)], dtype)
    value = built(name)(points, torch.tensor(labels))
    assert value == 0
    value.backward()
    assert points.grad is not None
    assert points.grad.eq(0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_large_scale_does_not_overflow(dtype: torch.dtype) -> None:
    points = at_angles([float(angle) for angle in range(180)], dtype)
    value = built("circle", margin=0.4, scale=300.0)(points, torch.randint(0, 10, (180,)))
    assert 0 < value < math.inf
    value.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("name", FIVE)
def test_without_labels_and_without_indices_there_is_nothing_to_say(name: str) -> None:
    points = at_angles([0.0, 20.0, 40.0, 60.0, 80.0])
    for given in ({}, {"ref_emb": points}):
        with refused(["labels and indices_tuple are both None"], ValueError):
            built(name)(points, **given)


class TestConventions:
    """What their tests ask for and ours does otherwise."""

    def test_a_batch_of_one_class_costs_something_in_supcon(self) -> None:
        points = at_angles([0.0, 10.0, 20.0])
        assert built("supervised_contrastive")(points, torch.tensor([0, 0, 0])) > 0.6

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", FIVE)
    def test_the_value_of_half_precision_is_float32(self, name: str, dtype: torch.dtype) -> None:
        assert built(name)(at_angles([0.0, 20.0, 40.0, 60.0, 80.0], dtype), torch.tensor(LABELS)).dtype is torch.float32

    def test_distances_are_of_embeddings_as_they_are(self) -> None:
        points, labels = at_angles([0.0, 20.0, 40.0, 60.0, 80.0]), torch.tensor(LABELS)
        loss = built("contrastive")
        assert not torch.isclose(loss(3 * points, labels), loss(points, labels))

    def test_means_of_pairs_of_one_class_and_of_two_are_over_those_that_cost_something(self) -> None:
        """Of ``ContrastiveLoss(reducer=MeanReducer())``, the sum of two means over all pairs, there is no equal."""
        with refused(["average", "'all', 'active' or 'balanced'"], losses.ConfigError):
            built("contrastive", average="balanced over all")
