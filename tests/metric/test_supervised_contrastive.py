"""What is peculiar to the supervised contrastive loss: which anchors count, and its softmax at any temperature."""

import math
from typing import Any

import pytest
import torch

import losses
from losses import Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.adapters.pytorch_metric_learning import miners as pml_miners
from tests.drawing import with_singletons_and_duplicates
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
EXTREMES = [(1e-6, dtype) for dtype in DTYPES[:3]] + [
    (temperature, dtype) for temperature in (1e-3, 0.1, 1e4) for dtype in DTYPES
]
"""Temperatures and dtypes; a gradient of one over 1e-6 does not fit into float16."""
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_batches_with_singletons_and_duplicates_equal_pytorch_metric_learning(seed: int, temperature: float) -> None:
    embeddings, labels = with_singletons_and_duplicates(seed)
    theirs = pml_losses.SupConLoss(temperature=temperature)
    miner = pml_miners.MultiSimilarityMiner(epsilon=0.3)
    for options in ({}, {"indices": miner(embeddings, labels)}):
        expected = backward(theirs, embeddings, labels, *options.values())
        found = backward(losses.create("supcon", temperature=temperature), embeddings, labels, **options)
        torch.testing.assert_close(found, expected, **CLOSE)


def test_a_pair_that_is_listed_twice_counts_once() -> None:
    embeddings, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    once = tuple(torch.tensor(column) for column in ([0, 2], [1, 3], [0, 0, 2], [2, 3, 1]))
    twice = tuple(torch.cat([column, column[:1]]) for column in once)
    loss = losses.create("supcon", reduction="none")
    torch.testing.assert_close(loss(embeddings, labels, indices=twice), loss(embeddings, labels, indices=once))


def test_only_anchors_with_a_positive_and_something_to_tell_it_from_count() -> None:
    embeddings, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 2])
    loss = losses.create("supcon")
    assert loss.total(embeddings, labels).denominator == 2
    assert loss.total(embeddings[:2], labels[:2]).denominator == 0
    # 1 and 2 have no negative, 3 has nothing
    indices = tuple(torch.tensor(column) for column in ([0, 1, 2], [1, 0, 3], [0], [2]))
    items = losses.create("supcon", reduction="none")(embeddings, labels, indices=indices)
    assert (items > 0).tolist() == [True, False, False, False]
    assert loss.total(embeddings, labels, indices=indices).denominator == 1
    torch.testing.assert_close(loss(embeddings, labels, indices=indices), items[0])
    torch.testing.assert_close(
        loss(embeddings, labels, indices=indices), pml_losses.SupConLoss()(embeddings, labels, indices), **CLOSE
    )


def test_equal_points_of_one_class_cost_the_logarithm_of_how_many_there_are() -> None:
    value, gradient = backward(losses.create("supcon"), torch.ones(6, 3), torch.zeros(6, dtype=torch.long))
    assert value.item() == pytest.approx(math.log(5))
    torch.testing.assert_close(gradient, torch.zeros(6, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("temperature", "dtype"), EXTREMES, ids=str)
def test_value_and_gradient_are_finite_and_not_negative_everywhere(temperature: float, dtype: torch.dtype) -> None:
    random = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    axis = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]])
    for reduction in ("mean", "sum", "none"):
        loss = losses.create("supcon", temperature=temperature, reduction=reduction)
        for embeddings in (
            random,
            torch.zeros(4, 3),
            torch.ones(4, 3),
            axis,
            random[:, :0],
            torch.cat([random[:2], random[:2]]),
        ):
            for labels in ([0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, -5]):
                for size in (4, 1, 0):
                    value, _ = backward(
                        loss, embeddings[:size].to(dtype), torch.tensor(labels[:size], dtype=torch.long)
                    )
                    assert (value >= 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [[], [0], [0, 1, 2, 3], [0, 0]], ids=str)
def test_where_nothing_can_be_told_apart_the_loss_is_zero_with_zero_gradient(labels: list[int], reduction: str) -> None:
    embeddings = torch.randn(len(labels), 3)
    value, gradient = backward(
        losses.create("supcon", reduction=reduction), embeddings, torch.tensor(labels, dtype=torch.long)
    )
    assert not value.any()
    assert not gradient.any()
    value, _ = backward(
        losses.create("supcon", reduction=reduction),
        embeddings,
        torch.tensor(labels).long(),
        reference=(torch.randn(0, 3), torch.zeros(0).long()),
    )
    assert not value.any()


def test_single_precision_at_a_low_temperature_is_as_exact_as_its_similarities() -> None:
    embeddings, labels = torch.randn(64, 8), torch.arange(64) % 4
    loss = losses.create("supcon", temperature=1e-3)
    exact = loss(embeddings.double(), labels)
    assert loss(embeddings, labels).item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_weight_is_that_of_an_anchor() -> None:
    embeddings, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1, 2])
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0, 9.0], dtype=torch.float64)
    items = losses.create("supcon", reduction="none")(embeddings, labels)
    counted = weight * torch.tensor([1, 1, 1, 1, 1, 0])
    torch.testing.assert_close(
        losses.create("supcon")(embeddings, labels, weight=weight), (weight * items).sum() / counted.sum()
    )
    torch.testing.assert_close(
        losses.create("supcon", reduction="none")(embeddings, labels, weight=weight), weight * items
    )


def test_no_nan_arises_on_the_way_back_from_anchors_with_nothing_to_compare() -> None:
    """A NaN that is masked later still stops whoever trains with torch.autograd.set_detect_anomaly(True)."""
    indices = tuple(torch.tensor(column) for column in ([0, 2], [1, 3], [0], [2]))
    with torch.autograd.set_detect_anomaly(True):
        backward(losses.create("supcon"), torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 2]), indices=indices)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_with_indices_and_a_reference_it_is_the_same(dynamic: bool) -> None:
    torch.compiler.reset()
    embeddings, labels = torch.randn(6, 3), torch.arange(6) % 2
    reference = torch.randn(5, 3), torch.arange(5) % 2
    indices = tuple(torch.tensor(column) for column in ([0, 1], [2, 3], [0, 1, 1], [1, 0, 4]))
    compiled = torch.compile(losses.create("supcon"), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for options in ({"indices": indices}, {"reference": reference}, {"indices": indices, "reference": reference}):
        found, expected = (
            backward(loss, embeddings, labels, **options) for loss in (compiled, losses.create("supcon"))
        )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("output", "target", "options", "words"),
    [
        (
            Pairs(torch.randn(2, 3), torch.randn(2, 3)),
            torch.ones(2),
            {},
            ["supervised_contrastive takes embeddings", "Pairs"],
        ),
        (torch.randn(3, 2), torch.arange(3.0), {}, ["labels", "integers"]),
        (torch.randn(3, 2), None, {}, ["labels", "None"]),
        (
            torch.randn(3, 2),
            torch.arange(3),
            {"indices": (torch.tensor([0]), torch.tensor([3]), torch.tensor([1]))},
            ["positive", "holds 3"],
        ),
        (torch.randn(3, 2), torch.arange(3), {"weight": torch.ones(4)}, ["weight", "(4,)", "(3,)"]),
    ],
    ids=["pairs", "float-labels", "no-labels", "indices", "weight"],
)
def test_a_wrong_batch_is_refused(output: Any, target: Any, options: dict[str, Any], words: list[str]) -> None:
    with refused(words):
        losses.create("supcon")(output, target, **options)
