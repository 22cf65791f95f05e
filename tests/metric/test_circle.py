"""What is peculiar to the circle loss: an item is an anchor, or all the pairs that are given."""

import math

import pytest
import torch

import losses
from losses import InputError, Pairs
from losses.abstract.anchor import all_rows
from losses.core.labelled import labelled_batch
from losses.metric.circle import circle
from losses.ops.distances import cosine_similarity
from tests.gradients import backward
from tests.metric.few_points import POINTS, assert_few_points_are_finite

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("scale", [1.0, 80.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_without_anchors_and_with_equal_points_are_finite(scale: float, dtype: torch.dtype) -> None:
    more = {
        "far apart": (POINTS * 1e3, [0, 0, 1, 1]),
        "on an axis": (torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]]), [0, 0, 1, 1]),
    }
    nothing = {"none", "one", "one class", "all different"}
    assert_few_points_are_finite("circle", {"scale": scale}, dtype, nothing=nothing, more=more)


@pytest.mark.parametrize("same", [[], [1, 1], [0, 0]], ids=str)
def test_pairs_of_one_kind_are_zero_with_zero_gradient(same: list[int]) -> None:
    first = torch.randn(len(same), 3, requires_grad=True)
    value = losses.create("circle")(Pairs(first, torch.randn(len(same), 3)), torch.tensor(same))
    value.backward()
    assert value == 0
    assert first.grad is not None
    assert not first.grad.any()


def test_only_anchors_with_positives_and_negatives_count() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = math.log(1 + math.exp(-0.5))
    loss = losses.create("circle", margin=0.5, scale=1.0)
    assert loss(embeddings, torch.tensor([0, 0, 1])).item() == pytest.approx(expected)
    assert loss.total(embeddings, torch.tensor([0, 0, 1])).denominator == 2


def test_a_weight_is_that_of_an_anchor() -> None:
    embeddings, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1, 2])
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0, 9.0], dtype=torch.float64)
    items = losses.create("circle", scale=4.0, reduction="none")(embeddings, labels)
    counted = weight * torch.tensor([1, 1, 1, 1, 1, 0])
    value = losses.create("circle", scale=4.0)(embeddings, labels, weight=weight)
    torch.testing.assert_close(value, (weight * items).sum() / counted.sum())


def test_half_batches_of_anchors_over_their_number_give_the_whole_gradient() -> None:
    embeddings, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    _, whole = backward(losses.create("circle", scale=4.0), embeddings, labels)
    leaf = embeddings.clone().requires_grad_()
    for half in (torch.tensor([1.0, 1, 0, 0, 0, 0]), torch.tensor([0.0, 0, 1, 1, 1, 1])):
        losses.create("circle", scale=4.0)(leaf, labels, weight=half, normalizer=6).backward()
    torch.testing.assert_close(leaf.grad, whole)


def test_a_weight_for_each_pair_is_refused() -> None:
    with pytest.raises(InputError, match="2 pairs as one item"):
        losses.create("circle")(Pairs(torch.randn(2, 3), torch.randn(2, 3)), torch.tensor([1, 0]), weight=torch.ones(2))


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_length_of_the_vectors_does_not_matter_in_single_precision(scale: float) -> None:
    first, second, same = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([1, 0, 1, 0])
    expected = losses.create("circle", scale=2.0)(Pairs(first, second), same)
    torch.testing.assert_close(losses.create("circle", scale=2.0)(Pairs(first * scale, second * scale), same), expected)
    labels = torch.tensor([0, 0, 1, 1])
    expected = losses.create("circle", scale=2.0)(first, labels)
    torch.testing.assert_close(losses.create("circle", scale=2.0)(first * scale, labels), expected)


def test_with_its_paces_held_fixed_the_gradient_is_that_of_the_value() -> None:
    embeddings, labels = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    batch = labelled_batch(embeddings, labels)
    pace = cosine_similarity(embeddings, embeddings)

    def held(points: torch.Tensor) -> torch.Tensor:
        rows = all_rows(cosine_similarity(points, points), batch.positive, batch.negative, torch.inf)
        return circle(rows, scale=4.0, paces=(pace, pace))

    leaf = embeddings.requires_grad_()
    assert torch.autograd.gradcheck(held, leaf)
    assert torch.autograd.gradgradcheck(held, leaf)
