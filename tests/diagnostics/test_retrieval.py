"""Retrieval metrics against pytorch-metric-learning and loops, ties, blocks and refusals."""

from __future__ import annotations

import sys
from typing import Any

import numpy
import pytest
import torch
from sklearn.metrics.pairwise import cosine_distances
from torch import Tensor

from losses import ConfigError, InputError
from losses.adapters.pytorch_metric_learning import accuracy_calculator, distances
from losses.diagnostics import nearest, retrieval

neighbours = sys.modules["losses.diagnostics.neighbours"]
THEIRS = ("precision_at_1", "r_precision", "mean_average_precision_at_r")


def batch(seed: int, size: int = 40, dimensions: int = 3) -> tuple[Tensor, Tensor]:
    """Return embeddings with some equal rows, and labels of a large class, small ones and singletons; some are
    negative."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 9, (size,), generator=random)
    labels = torch.where(labels < 4, 0, labels) - 2
    labels[: size // 8] = torch.arange(size // 8) + 1000 * (seed + 1)
    embeddings = torch.randn(size, dimensions, generator=random) + labels.unsqueeze(1).clamp(max=5) / 4
    embeddings[-3:] = embeddings[:3]
    return embeddings, labels


def in_order(embeddings: Tensor, reference: Tensor | None, distance: str) -> list[list[int]]:
    """Return all neighbours of every embedding by distance, then by index; a loop."""
    others = embeddings if reference is None else reference
    measure = cosine_distances if distance == "cosine" else direct_distances
    matrix = measure(embeddings.double().numpy(), others.double().numpy())
    return [
        sorted(
            (other for other in range(len(others)) if reference is not None or other != row),
            key=lambda other: (matrix[row, other], other),
        )
        for row in range(len(embeddings))
    ]


def direct_distances(first: numpy.ndarray, second: numpy.ndarray) -> numpy.ndarray:
    return numpy.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))


def looped(
    ranking: list[list[int]], labels: Tensor, other_labels: Tensor, recall_at: tuple[int, ...]
) -> dict[str, Any]:
    """Return the metrics by a loop over queries and places."""
    recalls: dict[int, list[float]] = {k: [] for k in recall_at}
    r_precisions, averages = [], []
    for row, order in enumerate(ranking):
        hits = [int(other_labels[other] == labels[row]) for other in order]
        relevant = sum(hits)
        if relevant == 0:
            continue
        for k in recall_at:
            recalls[k].append(float(any(hits[:k])))
        r_precisions.append(sum(hits[:relevant]) / relevant)
        averages.append(
            sum(hit * sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits[:relevant])) / relevant
        )
    return {
        "recall": {k: numpy.mean(found) for k, found in recalls.items()},
        "r_precision": numpy.mean(r_precisions),
        "map_at_r": numpy.mean(averages),
        "queries": len(averages),
    }


def assert_figures(metrics: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        assert getattr(metrics, name) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("with_reference", [False, True], ids=["themselves", "reference"])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_pytorch_metric_learning(seed: int, with_reference: bool, distance: str) -> None:
    embeddings, labels = batch(seed)
    embeddings[-3:] += 0.1  # the order of equal distances is anyone's choice
    reference = batch(seed + 100, size=70) if with_reference else None
    if reference is not None:
        reference[0][-3:] += 0.1
    measure = distances.CosineSimilarity() if distance == "cosine" else distances.LpDistance(normalize_embeddings=False)
    expected = accuracy_calculator(measure, THEIRS).get_accuracy(embeddings, labels, *(reference or ()))
    metrics = retrieval(embeddings, labels, reference=reference, distance=distance)
    assert metrics.recall[1] == pytest.approx(expected["precision_at_1"], abs=1e-9)
    assert metrics.r_precision == pytest.approx(expected["r_precision"], abs=1e-9)
    assert metrics.map_at_r == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("with_reference", [False, True], ids=["themselves", "reference"])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_a_loop(seed: int, with_reference: bool, distance: str) -> None:
    embeddings, labels = batch(seed, dimensions=2 + seed)
    reference = batch(seed + 100, size=70, dimensions=2 + seed) if with_reference else None
    if distance == "cosine":
        embeddings[-3:] *= 1.7
        if reference is not None:
            reference[0][-3:] *= 0.6
    others, other_labels = reference or (embeddings, labels)
    ranking = in_order(embeddings, None if reference is None else others, distance)
    recall_at = (1, 3, 20, 1000)
    metrics = retrieval(embeddings, labels, reference=reference, distance=distance, recall_at=recall_at)
    assert metrics.queries < len(labels)
    assert metrics.recall[1000] == 1
    assert_figures(metrics, looped(ranking, labels, other_labels, recall_at))


@pytest.mark.parametrize("with_reference", [False, True], ids=["themselves", "reference"])
@pytest.mark.parametrize(("rows", "elements"), [(1, 1), (3, 1), (7, 100), (1, 500)], ids=str)
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, with_reference: bool, rows: int, elements: int) -> None:
    embeddings, labels = batch(5, size=60)
    reference = batch(6, size=80) if with_reference else None
    others = None if reference is None else reference[0]
    whole = retrieval(embeddings, labels, reference=reference)
    found = nearest(embeddings, 9, reference=others)
    monkeypatch.setattr(neighbours, "ROWS", rows)
    monkeypatch.setattr(neighbours, "BLOCK", elements)
    assert_figures(retrieval(embeddings, labels, reference=reference), whole._asdict())
    assert torch.equal(nearest(embeddings, 9, reference=others), found)


@pytest.mark.parametrize("count", [1, 5, 30, 79], ids=str)
@pytest.mark.parametrize("kind", ["codes", "grid", "duplicates", "equal", "no_dimension"])
def test_equal_distances_go_by_index(kind: str, count: int) -> None:
    random = torch.Generator().manual_seed(count)
    embeddings = {
        "codes": torch.randint(0, 2, (80, 11), generator=random) * 2.0 - 1,
        "grid": torch.randint(-3, 4, (80, 2), generator=random).double(),
        "duplicates": torch.randn(10, 37, generator=random).repeat(8, 1),
        "equal": torch.full((80, 3), 0.1),
        "no_dimension": torch.zeros(80, 0),
    }[kind]
    assert nearest(embeddings, count).tolist() == [order[:count] for order in in_order(embeddings, None, "euclidean")]
    queries = embeddings[:7]
    assert nearest(queries, count, reference=embeddings).tolist() == [
        order[:count] for order in in_order(queries, embeddings, "euclidean")
    ]


@pytest.mark.parametrize("far_away", [0.0, 1.0, 1e4], ids=str)
@pytest.mark.parametrize("spread", [1e-3, 1e-7, 1e-12], ids=str)
def test_near_duplicates_are_told_apart(spread: float, far_away: float) -> None:
    """Where |a|^2 + |b|^2 - 2ab has lost everything."""
    random = torch.Generator().manual_seed(1)
    embeddings = (torch.randint(-50, 50, (90, 4), generator=random) * spread).double() + far_away
    assert nearest(embeddings, 6).tolist() == [order[:6] for order in in_order(embeddings, None, "euclidean")]


def test_one_far_point_does_not_blur_the_others() -> None:
    embeddings = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-3
    embeddings[7] = 1e8
    assert nearest(embeddings, 4).tolist() == [order[:4] for order in in_order(embeddings, None, "euclidean")]


@pytest.mark.parametrize("with_reference", [False, True], ids=["themselves", "reference"])
def test_a_row_of_zeros_has_cosine_zero_with_everything(with_reference: bool) -> None:
    embeddings = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -2.0], [-3.0, 0.0], [0.0, 0.0]])
    order = nearest(embeddings, 4, distance="cosine", reference=embeddings if with_reference else None)
    assert order[0].tolist() == ([0, 1, 2, 3] if with_reference else [1, 2, 3, 4])
    assert order[1].tolist() == ([1, 0, 2, 4] if with_reference else [0, 2, 4, 3])


def test_classes_of_very_different_size_are_averaged_over_queries() -> None:
    embeddings = torch.randn(300, 4, generator=torch.Generator().manual_seed(3))
    labels = torch.cat([torch.zeros(250), torch.arange(50).div(2, rounding_mode="floor") + 1]).long()
    assert_figures(
        retrieval(embeddings, labels), looped(in_order(embeddings, None, "euclidean"), labels, labels, (1, 2, 4, 8))
    )


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn], ids=str
)
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    embeddings, labels = batch(8)
    embeddings = embeddings.to(dtype)
    expected = looped(in_order(embeddings, None, "euclidean"), labels, labels, (1, 2, 4, 8))
    assert_figures(retrieval(embeddings.requires_grad_(), labels), expected)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([5, -7, 5, -7]), torch.tensor([True, False, True, False]), torch.tensor([3, 0, 3, 0]).byte()],
)
def test_labels_are_any_integers(labels: Tensor) -> None:
    assert retrieval(torch.tensor([[0.0], [5.0], [1.0], [7.0]]), labels) == ({1: 1, 2: 1, 4: 1, 8: 1}, 1, 1, 4)


def test_figures_print_with_four_digits_and_keep_all() -> None:
    metrics = retrieval(torch.tensor([[0.0], [1.0], [1.5], [4.0]]), torch.tensor([0, 0, 1, 0]), recall_at=[1])
    assert repr(metrics) == "Retrieval(recall={1: 0.3333}, r_precision=0.5, map_at_r=0.3333, queries=3)"
    assert metrics._asdict() == {"recall": {1: 1 / 3}, "r_precision": 0.5, "map_at_r": 1 / 3, "queries": 3}


POINTS, TWO = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((torch.zeros(0, 2), TWO[:0]), {}, InputError, "0 embeddings of 0 classes among themselves"),
        ((torch.zeros(1, 2), TWO[:1]), {}, InputError, "no query has anyone of its class"),
        ((POINTS, torch.arange(4)), {}, InputError, "4 embeddings of 4 classes"),
        ((POINTS, TWO), {"reference": (POINTS, TWO + 5)}, InputError, "a reference of 4"),
        ((POINTS, TWO), {"reference": (POINTS[:0], TWO[:0])}, InputError, "a reference of 0"),
        ((POINTS, TWO), {"reference": POINTS}, InputError, r"reference must be a tuple \(embeddings, labels\)"),
        ((POINTS, TWO), {"reference": (POINTS[:, :1], TWO)}, InputError, "reference embeddings have 1 dimensions"),
        ((POINTS, TWO), {"reference": (POINTS, TWO[:3])}, InputError, "embeddings holds 4 rows and labels holds 3"),
        ((POINTS[0], TWO), {}, InputError, "must have 2 dimensions"),
        ((POINTS.long(), TWO), {}, InputError, "must be floating point"),
        ((POINTS / 0, TWO), {}, InputError, "NaN in 8 of 8"),
        ((POINTS + torch.inf, TWO), {}, InputError, "must be finite"),
        ((POINTS.double() + 1e200, TWO), {}, InputError, "their squares would overflow"),
        ((POINTS, TWO.float()), {}, InputError, "labels must be integers"),
        ((POINTS.tolist(), TWO), {}, InputError, "embeddings must be a tensor"),
        ((POINTS, TWO), {"distance": "cosin"}, ConfigError, "Did you mean 'cosine'"),
        ((POINTS, TWO), {"recall_at": (1, 0)}, ConfigError, "recall_at: got 0"),
        ((POINTS, TWO), {"recall_at": (True,)}, ConfigError, "recall_at: got True"),
        ((POINTS, TWO), {"recall_at": 4}, ConfigError, "recall_at: got 4"),
    ],
    ids=str,
)
def test_what_cannot_be_figured_is_refused(arguments: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        retrieval(*arguments, **options)


def test_more_neighbours_than_there_are_are_refused() -> None:
    assert nearest(POINTS, 3).shape == (4, 3)
    with pytest.raises(InputError, match="4 neighbours and there are 3"):
        nearest(POINTS, 4)
    with pytest.raises(ConfigError, match="count: got 0"):
        nearest(POINTS, 0)
    assert nearest(POINTS[:0], 3).shape == (0, 3)
