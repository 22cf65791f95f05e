"""What is peculiar to the contrastive loss: unordered pairs, sums of two means, and weights of both ends."""

from typing import Any

import pytest
import torch

import losses
from losses import Pairs
from losses.adapters.pytorch_metric_learning import distances
from losses.adapters.pytorch_metric_learning import losses as pml
from tests.gradients import backward
from tests.metric.few_points import POINTS, assert_few_points_are_finite

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CONFIGURATIONS = [
    {"power": power, "average": average, "distance": distance}
    for power in (1, 2)
    for average in ("all", "active", "balanced")
    for distance in ("euclidean", "squared_euclidean", "cosine")
]


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_without_pairs_and_with_equal_points_are_finite(parameters: dict[str, Any], dtype: torch.dtype) -> None:
    more = {"far apart": (POINTS * 10, [0, 0, 1, 1])}
    assert_few_points_are_finite("contrastive", parameters, dtype, nothing={"none", "one"}, more=more)


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_gradient_of_pairs_at_zero_distance_is_finite(
    parameters: dict[str, Any], dtype: torch.dtype, fill: float
) -> None:
    first, second = (torch.full((2, 3), fill, dtype=dtype, requires_grad=True) for _ in range(2))
    value = losses.create("contrastive", **parameters)(Pairs(first, second), torch.tensor([1, 0]))
    value.backward()
    assert value.isfinite()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in (first, second))


@pytest.mark.parametrize("power", [1, 2])
def test_no_pairs_given_is_zero_with_a_graph(power: int) -> None:
    first = torch.zeros(0, 3, requires_grad=True)
    value = losses.create("contrastive", power=power)(Pairs(first, torch.zeros(0, 3)), torch.zeros(0))
    value.backward()
    assert value == 0


def test_two_hundred_random_batches_equal_pytorch_metric_learning() -> None:
    random = torch.Generator().manual_seed(0)
    ours = losses.create("contrastive", margin=2.0, positive_margin=0.3, power=1, average="balanced")
    theirs = pml.ContrastiveLoss(
        pos_margin=0.3, neg_margin=2.0, distance=distances.LpDistance(normalize_embeddings=False)
    )
    for batch in range(200):
        size, classes = int(torch.randint(2, 25, (), generator=random)), int(torch.randint(1, 8, (), generator=random))
        embeddings = torch.randn(size, 3, generator=random, dtype=torch.float64)
        labels = (torch.rand(size, generator=random) ** 2 * classes).long()
        if batch % 4 == 0 and size > 3:
            embeddings[1], embeddings[2] = embeddings[0], embeddings[0]
        value, gradient = backward(ours, embeddings, labels)
        expected, of_pml = backward(theirs, embeddings, labels)
        torch.testing.assert_close(value, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        if batch % 4:  # at duplicates the two may choose another subgradient
            torch.testing.assert_close(gradient, of_pml, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("average", ["all", "active", "balanced"])
def test_a_pair_of_a_batch_weighs_the_mean_of_its_two_ends(average: str) -> None:
    embeddings, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2])
    weight = torch.tensor([1.0, 0.0, 3.0, 0.5, 0.0], dtype=torch.float64)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    items, each, same = [], [], []
    for i, j in pairs:
        d = (embeddings[i] - embeddings[j]).norm()
        same.append(bool(labels[i] == labels[j]))
        items.append(d**2 / 2 if same[-1] else torch.clamp(2 - d, min=0) ** 2 / 2)
        each.append((weight[i] + weight[j]) / 2)
    values, weights, positive = torch.stack(items), torch.stack(each), torch.tensor(same)
    denominators = weights if average == "all" else weights * (values > 0)
    sides = [positive, ~positive] if average == "balanced" else [torch.ones_like(positive)]
    expected = sum(
        (weights * values)[side].sum() / denominators[side].sum() for side in sides if denominators[side].sum()
    )
    loss = losses.create("contrastive", margin=2.0, average=average)
    torch.testing.assert_close(loss(embeddings, labels, weight=weight), torch.as_tensor(expected))
    unreduced = losses.create("contrastive", margin=2.0, average=average, reduction="none")
    torch.testing.assert_close(unreduced(embeddings, labels, weight=weight), weights * values)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_in_a_pair(reduction: str) -> None:
    first = torch.tensor([[0.0], [torch.nan], [0.0]], requires_grad=True)
    second = torch.tensor([[3.0], [1.0], [0.5]], requires_grad=True)
    loss = losses.create("contrastive", reduction=reduction)
    value = loss(Pairs(first, second), torch.tensor([1.0, torch.nan, 0.0]), weight=torch.tensor([1.0, 0.0, 2.0]))
    value.sum().backward()
    expected = {"mean": (4.5 + 0.25) / 3, "sum": 4.75, "none": [4.5, 0.0, 0.25]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad[1] == second.grad[1] == 0


def test_weights_with_a_reference_or_indices_are_those_of_the_anchor() -> None:
    embeddings, labels, others = torch.randn(2, 2), torch.tensor([0, 1]), torch.randn(3, 2)
    weight = torch.tensor([1.0, 4.0])
    loss = losses.create("contrastive", reduction="none", margin=9.0)
    reference = (others, torch.tensor([0, 1, 0]))
    items = loss(embeddings, labels, reference=reference)
    torch.testing.assert_close(
        loss(embeddings, labels, reference=reference, weight=weight), items * torch.tensor([1.0, 1, 1, 4, 4, 4])
    )
    indices = torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1]), torch.tensor([2])
    items = loss(embeddings, labels, reference=reference, indices=indices)
    torch.testing.assert_close(
        loss(embeddings, labels, reference=reference, indices=indices, weight=weight),
        items * torch.tensor([1.0, 4.0, 4.0]),
    )


def test_totals_of_balanced_parts_add_up_to_two_means() -> None:
    first, second, same = torch.randn(8, 2), torch.randn(8, 2), torch.arange(8) % 3 == 0
    loss = losses.create("contrastive", average="balanced", margin=3.0)
    totals = [loss.total(Pairs(first[part], second[part]), same[part]) for part in (slice(0, 2), slice(2, 8))]
    sums, weights = sum(total.sum for total in totals), sum(total.denominator for total in totals)
    torch.testing.assert_close((sums / weights).sum(), loss(Pairs(first, second), same))


def test_half_batches_of_pairs_over_their_number_give_the_whole_gradient() -> None:
    pairs, same = torch.randn(2, 6, 3, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0, 0])
    first = pairs[0].clone().requires_grad_()
    losses.create("contrastive")(Pairs(first, pairs[1]), same).backward()
    halves = pairs[0].clone().requires_grad_()
    for part in (slice(0, 2), slice(2, 6)):
        losses.create("contrastive")(Pairs(halves[part], pairs[1][part]), same[part], normalizer=6).backward()
    torch.testing.assert_close(halves.grad, first.grad)


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dimension", [3, 64, 257])
def test_equal_points_lie_exactly_zero_apart(distance: str, dtype: torch.dtype, dimension: int) -> None:
    """pytorch#36493, #123082: a matrix product alone leaves the square root of its rounding between equal points."""
    points = torch.randn(20, dimension, generator=torch.Generator().manual_seed(0)) * 10 + 3
    embeddings = torch.cat([points, points]).to(dtype)
    loss = losses.create("contrastive", power=1, distance=distance, reduction="sum")
    indices = torch.triu_indices(40, 40, 1)
    same = losses.create("contrastive", power=1, distance=distance, reduction="none")(embeddings, torch.arange(40) % 20)
    assert not same[indices[1] - indices[0] == 20].any()
    value, gradient = backward(loss, embeddings[:20], torch.arange(20), reference=(embeddings[20:], torch.arange(20)))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cosine_distance_does_not_depend_on_the_length_of_the_vectors(scale: float, dtype: torch.dtype) -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    scaled = (vectors * scale).to(dtype)
    loss = losses.create("contrastive", distance="cosine", power=1, reduction="none")
    expected = 1 - 2**-0.5
    assert loss(scaled, torch.tensor([0, 0])).item() == pytest.approx(expected, rel=1e-5)
    assert loss(Pairs(scaled[:1], scaled[1:]), torch.tensor([1])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("per_class", [3, 200])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("learnt", [False, True])
def test_few_anchors_against_many_others_are_what_the_definition_says(
    parameters: dict[str, Any], per_class: int, weighted: bool, learnt: bool
) -> None:
    torch.manual_seed(0)
    anchors, others = (torch.randn(count, 6, dtype=torch.float64) for count in (40, 600))
    others[100:110] = anchors[:10]  # equal points, of one class and of others
    labels, other_labels = torch.arange(40) * 15 // per_class, torch.arange(600) // per_class
    weight = torch.linspace(0, 2, 40, dtype=torch.float64) if weighted else None
    loss = losses.create("contrastive", margin=2.5, positive_margin=0.3, **parameters)
    anchors.requires_grad_()
    others.requires_grad_(learnt)
    leaves = [anchors, *([others] if learnt else [])]
    assert isinstance(loss, losses.ContrastiveLoss)
    batch, target, _ = loss._accepted(anchors, labels, None, {"reference": (others, other_labels)})
    expected = loss.plain_total(batch, target, weight)
    actual = loss.total(anchors, labels, weight=weight, reference=(others, other_labels))
    torch.testing.assert_close(actual.mean(), expected.mean(), rtol=1e-12, atol=1e-12)
    for got, right in zip(*(torch.autograd.grad(each.mean(), leaves) for each in (actual, expected)), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-10, atol=1e-12)
