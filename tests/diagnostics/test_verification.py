"""Verification metrics against scikit-learn and brute force, ties, pairs and refusals."""

from __future__ import annotations

import sys
from itertools import combinations
from typing import Any

import numpy
import pytest
import torch
from scipy.optimize import brentq
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from torch import Tensor

from losses import ConfigError, InputError
from losses.diagnostics import all_pairs, verification

RATES = (0.0, 1e-3, 1e-2, 0.1, 0.25, 0.3, 0.5, 1.0)


def pairs(seed: int, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return distances that tell, tell nothing, or tell the wrong thing; every other time with many ties."""
    random = torch.Generator().manual_seed(seed)
    count = int(torch.randint(2, 60, (), generator=random)) if count is None else count
    same = torch.rand(count, generator=random) < (0.5, 0.1, 0.9)[seed % 3]
    same[:2] = torch.tensor([True, False])
    distances = torch.rand(count, generator=random, dtype=torch.float64) + (~same) * (seed % 5 - 1) / 4
    return ((distances * 6).round() / 6 if seed % 2 else distances), same


@pytest.mark.parametrize("seed", range(60))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    distances, same = pairs(seed)
    metrics = verification(distances, same, false_accept_rates=RATES)
    scores = -distances.numpy()
    wrongly, rightly, _ = roc_curve(same.numpy(), scores, drop_intermediate=False)
    assert metrics.auc == pytest.approx(roc_auc_score(same.numpy(), scores), abs=1e-14)
    assert metrics.tar == {rate: pytest.approx(rightly[wrongly <= rate].max(), abs=1e-14) for rate in RATES}
    assert metrics.eer == pytest.approx(
        brentq(lambda rate: 1 - rate - numpy.interp(rate, *strictly(wrongly, rightly)), 0, 1), abs=1e-9
    )
    assert 2 * metrics.balanced_accuracy - 1 == pytest.approx((rightly - wrongly).max(), abs=1e-14)
    accepted = distances <= metrics.threshold
    assert metrics.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(same.numpy(), accepted.numpy()), abs=1e-14
    )


def strictly(wrongly: numpy.ndarray, rightly: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the curve with each vertical step a little slanted, so that it is a function to interpolate."""
    return wrongly + 1e-11 * numpy.arange(len(wrongly)), rightly


@pytest.mark.parametrize("seed", range(20))
def test_the_equal_error_rate_is_the_same_seen_from_either_side(seed: int) -> None:
    distances, same = pairs(seed)
    metrics, mirrored = verification(distances, same), verification(-distances, ~same)
    assert metrics.eer == pytest.approx(mirrored.eer, abs=1e-12)
    assert metrics.auc == pytest.approx(mirrored.auc, abs=1e-12)
    assert metrics.eer + verification(-distances, same).eer == pytest.approx(1, abs=1e-12)
    assert metrics.auc + verification(-distances, same).auc == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_the_threshold_is_the_smallest_of_the_best(seed: int) -> None:
    """By brute force over every way to cut the sorted distances in two."""
    distances, same = pairs(seed)
    cuts = [-torch.inf, *distances.unique().tolist()]
    quality = [balanced_accuracy_score(same.numpy(), (distances <= cut).numpy()) for cut in cuts]
    best = next(place for place, value in enumerate(quality) if value == pytest.approx(max(quality), abs=1e-12))
    expected = -torch.inf if best == 0 else cuts[best] if best == len(cuts) - 1 else (cuts[best] + cuts[best + 1]) / 2
    assert verification(distances, same).threshold == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_threshold_holds_in_the_precision_of_the_distances(dtype: torch.dtype) -> None:
    step = torch.finfo(dtype).eps
    for distances in torch.tensor([[1, 1 + step], [1 + step, 1 + 2 * step]], dtype=dtype):
        metrics = verification(distances, torch.tensor([1, 0]))
        assert (distances <= metrics.threshold).tolist() == [True, False]
        assert metrics[:2] == (1, 0)


@pytest.mark.parametrize("different", [1, 3, 10, 49, 100, 1000])
def test_as_many_are_accepted_as_a_rate_allows_to_the_last_one(different: int) -> None:
    rates = [count / different for count in range(different + 1)] + [0.07, 0.29, 0.57, 0.58]
    same = torch.arange(2 * different) % 2 == 1  # after every different pair one that is the same
    metrics = verification(torch.arange(2 * different), same, false_accept_rates=rates)
    wrongly, rightly, _ = roc_curve(same, -torch.arange(2 * different), drop_intermediate=False)
    assert metrics.tar == {rate: rightly[wrongly <= rate].max() for rate in rates}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64], ids=str)
def test_any_kind_of_number_is_a_distance(dtype: torch.dtype) -> None:
    distances, same = pairs(1, 50)
    distances = (distances * 6).round().to(dtype)
    assert verification(distances, same) == verification(distances.double(), same)


@pytest.mark.parametrize(
    "same", [[1, 0, 1, 0], [1, -1, 1, -1], [True, False, True, False], [1.0, 0.0, 1.0, 0.0]], ids=str
)
def test_same_is_written_in_many_ways(same: list[Any]) -> None:
    metrics = verification(torch.tensor([0.5, 3.0, 1.0, 2.0], requires_grad=True), torch.tensor(same))
    assert metrics == (1, 0, {1e-3: 1, 1e-2: 1, 1e-1: 1}, 1.5, 1)


def test_equal_distances_tell_nothing() -> None:
    metrics = verification(torch.ones(7), torch.tensor([1, 0, 0, 1, 0, 0, 0]), false_accept_rates=(0.5, 1.0))
    assert metrics == (0.5, 0.5, {0.5: 0, 1.0: 1}, -torch.inf, 0.5)


def test_infinite_distances_are_the_largest() -> None:
    metrics = verification(torch.tensor([1.0, torch.inf, torch.inf, 2.0]), torch.tensor([1, 0, 0, 1]))
    assert metrics[:2] == (1, 0)
    assert verification(torch.tensor([1.0, torch.inf]), torch.tensor([0, 1])).auc == 0


def test_millions_of_pairs_are_counted_exactly() -> None:
    same = torch.arange(3_000_000) % 3 == 0
    metrics = verification(torch.arange(3_000_000), same, false_accept_rates=[1e-3])
    assert metrics.auc == pytest.approx(0.5 + 0.5e-6, abs=1e-12)  # every same pair comes just before two different ones
    assert metrics.tar == {1e-3: 1001 / 1_000_000}


def test_figures_print_with_four_digits_and_keep_all() -> None:
    metrics = verification(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 0, 0, 1]), false_accept_rates=(1 / 3,))
    assert (
        repr(metrics)
        == "Verification(auc=0.5, eer=0.5, tar={0.3333333333333333: 0.5}, threshold=1.5, balanced_accuracy=0.75)"
    )
    assert metrics._asdict()["threshold"] == 1.5


@pytest.mark.parametrize("elements", [1, 50, 1 << 22], ids=str)
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
def test_all_pairs_are_all_pairs(monkeypatch: pytest.MonkeyPatch, distance: str, elements: int) -> None:
    monkeypatch.setattr(sys.modules["losses.diagnostics.verification_metrics"], "BLOCK", elements)
    embeddings = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5 - 2
    distances, same = all_pairs(embeddings.requires_grad_(), labels, distance=distance)
    rows, columns = map(list, zip(*combinations(range(12), 2), strict=True))
    matrix = (cosine_distances if distance == "cosine" else euclidean_distances)(embeddings.detach().double().numpy())
    expected = matrix**2 if distance == "squared_euclidean" else matrix
    numpy.testing.assert_allclose(distances.numpy(), expected[rows, columns], atol=1e-12)
    assert torch.equal(same, labels[rows] == labels[columns])


@pytest.mark.parametrize("size", [0, 1])
def test_fewer_than_two_embeddings_make_no_pair(size: int) -> None:
    distances, same = all_pairs(torch.zeros(size, 3), torch.zeros(size).long())
    assert distances.shape == same.shape == (0,)
    assert same.dtype is torch.bool


NEAR, BOTH = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((NEAR[:0], BOTH[:0]), {}, InputError, "needs same and different pairs, got 0 same of 0"),
        ((NEAR, BOTH * 0), {}, InputError, "got 0 same of 3"),
        ((NEAR, BOTH * 0 + 1), {}, InputError, "got 3 same of 3"),
        ((NEAR, BOTH[:2]), {}, InputError, "distances holds 3 rows and same holds 2"),
        ((NEAR, BOTH * 2), {}, InputError, "got 2; compare the labels first"),
        ((NEAR / 0 * 0, BOTH), {}, InputError, "distances must be numbers, got NaN"),
        ((NEAR, BOTH / 0 * 0), {}, InputError, "same must be numbers, got NaN"),
        ((NEAR.unsqueeze(1), BOTH), {}, InputError, "must have 1 dimension"),
        ((NEAR + 1j, BOTH), {}, InputError, "must be real"),
        ((NEAR.tolist(), BOTH), {}, InputError, "distances must be a tensor"),
        ((NEAR, BOTH), {"false_accept_rates": (0.1, 1.5)}, ConfigError, r"false_accept_rates: got \(0.1, 1.5\)"),
        ((NEAR, BOTH), {"false_accept_rates": (float("nan"),)}, ConfigError, "false_accept_rates: got"),
        ((NEAR, BOTH), {"false_accept_rates": 0.1}, ConfigError, "false_accept_rates: got 0.1"),
        ((NEAR, BOTH), {"false_accept_rates": "0.1"}, ConfigError, "false_accept_rates: got '0.1'"),
    ],
    ids=str,
)
def test_what_cannot_be_figured_is_refused(arguments: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        verification(*arguments, **options)
