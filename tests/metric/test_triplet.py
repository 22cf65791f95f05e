"""What is peculiar to the triplet loss: batches without triplets, ties, mining, and sums over triplets that are never
formed."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Triplets
from losses.adapters.pytorch_metric_learning import distances, miners
from losses.adapters.pytorch_metric_learning import losses as pml
from losses.ops.tiles.sizes import block_sizes
from tests.gradients import backward
from tests.metric.few_points import POINTS, assert_few_points_are_finite
from tests.ops.tile_cases import plainly
from tests.oracles.metric.batches import triplets_of
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CONFIGURATIONS = [
    {"mining": mining, "margin": margin, "swap": swap, "distance": distance}
    for mining in ("all", "hard", "semi_hard")
    for margin in (0.5, "soft")
    for swap in (False, True)
    for distance in ("euclidean", "squared_euclidean", "cosine")
]
EUCLIDEAN = distances.LpDistance(normalize_embeddings=False)


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_without_triplets_and_with_equal_points_are_finite(
    parameters: dict[str, Any], dtype: torch.dtype
) -> None:
    more = {"far apart": (POINTS * 1e3, [0, 0, 1, 1]), "close together": (POINTS * 1e-4, [0, 0, 1, 1])}
    nothing = {"none", "one", "one class", "all different"}
    assert_few_points_are_finite("triplet", parameters, dtype, nothing=nothing, more=more)


@pytest.mark.parametrize("parameters", CONFIGURATIONS[::3], ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("anchors", "others"), [(0, 0), (3, 0), (0, 3)])
def test_empty_batches_and_references_are_zero(
    parameters: dict[str, Any], reduction: str, anchors: int, others: int
) -> None:
    reference = torch.randn(others, 2), torch.tensor([0, 0, 1])[:others]
    loss = losses.create("triplet", **parameters, reduction=reduction)
    value, _ = backward(loss, torch.randn(anchors, 2), torch.tensor([0, 0, 1])[:anchors], reference=reference)
    assert not value.any()


@pytest.mark.parametrize("margin", [0.3, "soft"])
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_of_explicit_triplets_at_zero_distance_is_finite(
    margin: Any, distance: str, dtype: torch.dtype
) -> None:
    for fill in (0.0, 1.0):
        parts = [torch.full((2, 3), fill, dtype=dtype, requires_grad=True) for _ in range(3)]
        value = losses.create("triplet", margin=margin, distance=distance, swap=True)(Triplets(*parts), None)
        value.backward()
        assert value.item() == pytest.approx(math.log(2) if margin == "soft" else margin)
        assert all(part.grad.isfinite().all() for part in parts if part.grad is not None)


def test_nothing_active_is_zero_with_zero_gradient() -> None:
    embeddings, labels = torch.tensor([[0.0], [0.1], [9.0], [9.1]]), torch.tensor([0, 0, 1, 1])
    for mining in ("all", "hard", "semi_hard"):
        value, gradient = backward(losses.create("triplet", mining=mining), embeddings, labels)
        assert value == 0
        assert not gradient.any()


def test_hundred_mined_batches_equal_batch_hard_of_pytorch_metric_learning() -> None:
    random = torch.Generator().manual_seed(1)
    miner, theirs = miners.BatchHardMiner(distance=EUCLIDEAN), pml.TripletMarginLoss(margin=0.5, distance=EUCLIDEAN)
    ours, given = losses.create("triplet", margin=0.5, mining="hard"), losses.create("triplet", margin=0.5)
    for _ in range(100):
        embeddings = torch.randn(16, 3, generator=random, dtype=torch.float64)
        labels = torch.randint(6, (16,), generator=random)
        indices = miner(embeddings, labels)
        expected, of_pml = backward(theirs, embeddings, labels, indices_tuple=indices)
        for loss, options in ((ours, {}), (given, {"indices": indices})):
            value, gradient = backward(loss, embeddings, labels, **options)
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(gradient, of_pml, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("average", ["active", "all"])
@pytest.mark.parametrize("margin", [0.5, "soft"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("mining", ["all", "hard", "semi_hard"])
def test_a_weight_per_anchor_weighs_each_of_its_triplets(average: str, margin: Any, swap: bool, mining: str) -> None:
    embeddings, labels = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 0.0, 3.0], dtype=torch.float64)
    items = losses.create("triplet", average=average, margin=margin, swap=swap, mining=mining, reduction="none")(
        embeddings, labels
    )
    anchors = {
        "all": [a for a, _, _ in triplets_of(labels, labels, has_reference=False)],
        "hard": list(range(7)),
        "semi_hard": [a for a in range(7) for p in range(7) if p != a and labels[a] == labels[p]],
    }[mining]
    each = weight[anchors]
    denominators = each * (items > 0) if average == "active" else each
    loss = losses.create("triplet", average=average, margin=margin, swap=swap, mining=mining)
    torch.testing.assert_close(loss(embeddings, labels, weight=weight), (each * items).sum() / denominators.sum())
    total = loss.total(embeddings, labels, weight=weight)
    torch.testing.assert_close(total.sum, (each * items).sum())
    torch.testing.assert_close(torch.as_tensor(total.denominator, dtype=torch.float64), denominators.sum())
    unreduced = losses.create("triplet", average=average, margin=margin, swap=swap, mining=mining, reduction="none")
    torch.testing.assert_close(unreduced(embeddings, labels, weight=weight), each * items)


@pytest.mark.parametrize(
    "indices", [([0, 0, 2], [1, 1, 3], [2, 3, 0]), ([0, 2], [1, 3], [0, 0, 2], [2, 3, 0])], ids=["triplets", "pairs"]
)
def test_a_weight_per_anchor_weighs_triplets_from_indices(indices: Any) -> None:
    embeddings, labels = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    weight = torch.tensor([1.0, 5.0, 0.25, 7.0], dtype=torch.float64)
    tuples = tuple(torch.tensor(column) for column in indices)
    loss = losses.create("triplet", margin=5.0, average="all")

    def apart(i: int, j: int) -> Tensor:
        return (embeddings[i] - embeddings[j]).norm()

    triplets, each = [(0, 1, 2), (0, 1, 3), (2, 3, 0)], weight[[0, 0, 2]]
    items = torch.stack([apart(a, p) - apart(a, n) + 5 for a, p, n in triplets])
    value = loss(embeddings, labels, indices=tuples, weight=weight)
    torch.testing.assert_close(value, (each * items).sum() / each.sum())


def test_weight_zero_hides_nan_in_explicit_triplets() -> None:
    parts = [torch.tensor([[a], [torch.nan]], requires_grad=True) for a in (0.0, 2.0, 1.0)]
    value = losses.create("triplet", margin=1.0)(Triplets(*parts), None, weight=torch.tensor([1.0, 0.0]))
    value.backward()
    assert value == 2
    assert all(part.grad[1] == 0 for part in parts)


def test_weights_all_zero_is_zero_with_zero_gradient() -> None:
    value, gradient = backward(
        losses.create("triplet"), torch.randn(4, 2), torch.tensor([0, 0, 1, 1]), weight=torch.zeros(4)
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "parameters", [{"mining": m, "swap": s} for m in ("all", "hard", "semi_hard") for s in (False, True)], ids=str
)
def test_an_underflowing_soft_triplet_counts_alike_however_it_was_summed(parameters: dict[str, Any]) -> None:
    """Distances of hundreds: softplus is exactly 0 for half of the triplets."""
    embeddings = torch.tensor([[0.0], [1.0], [40.0], [90.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    options = {"margin": "soft", "distance": "squared_euclidean", **parameters}
    items = losses.create("triplet", **options, reduction="none")(embeddings, labels)
    assert (items == 0).any()
    assert (items > 0).any()
    total = losses.create("triplet", **options).total(embeddings, labels)
    assert total.sum == pytest.approx(items.sum().item())
    assert total.denominator in (len(items), int((items > 0).sum()))  # either reading of "active" ...
    explicit = [(a, p, n) for a, p, n in triplets_of(labels, labels, has_reference=False)]
    given = losses.create("triplet", margin="soft", distance="squared_euclidean").total(
        Triplets(*(embeddings[list(column)] for column in zip(*explicit, strict=True))), None
    )
    assert (total.denominator == len(items)) == (given.denominator == len(explicit))  # ... but the same one everywhere


def test_semi_hard_takes_the_nearest_farther_negative_else_the_farthest() -> None:
    embeddings = torch.tensor([[0.0], [2.0], [1.0], [3.0], [4.0], [-2.0]])
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    items = losses.create("triplet", mining="semi_hard", margin=9.0, reduction="none")(embeddings, labels)
    # anchor 0, positive at 2: farther negatives lie at 3 and 4 (those at 1 and 2 do not): 2 - 3 + 9
    # anchor 2, positive at 2: negatives at 1, 1, 2 and 4, only the last is farther: 2 - 4 + 9
    assert items.tolist() == [8.0, 7.0]
    none_farther = losses.create("triplet", mining="semi_hard", margin=9.0, reduction="none")(
        embeddings[:4], torch.tensor([0, 1, 1, 0])
    )
    # anchor at 0, positive at 3: negatives at 2 and 1, the farthest is 2: 3 - 2 + 9; anchor at 3: 3 - 2 + 9;
    # anchor at 2, positive at 1: negatives at 2 and 1 away, farther than 1 is 2: 1 - 2 + 9; anchor at 1: 1 - 2 + 9
    assert none_farther.tolist() == [10.0, 8.0, 8.0, 10.0]


@pytest.mark.parametrize("apart", [1e-4, 1e-6])
def test_near_duplicates_keep_their_distance_in_single_precision(apart: float) -> None:
    """pytorch#37154: what a float32 subtraction gives must not be lost by a matrix product."""
    embeddings = torch.tensor([[0.3, 0.3], [0.3, 0.3 + apart], [5.0, 1.0], [-2.0, 3.0]])
    expected = (embeddings[0].double() - embeddings[1].double()).norm().item()
    pairs = losses.create("contrastive", power=1, reduction="none")(embeddings, torch.tensor([0, 0, 1, 2]))
    assert pairs[0].item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("block", [1, 30, 200, 10_000])
def test_blocks_of_anchors_add_up_to_the_whole(block: int) -> None:
    embeddings, labels = torch.randn(11, 3, dtype=torch.float64), torch.arange(11) % 3
    theirs = pml.TripletMarginLoss(margin=0.0, smooth_loss=True, distance=EUCLIDEAN)
    expected, of_pml = backward(theirs, embeddings, labels)
    with block_sizes(temporary=block), plainly():
        value, gradient = backward(losses.create("triplet", margin="soft"), embeddings, labels)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, of_pml, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("average", ["all", "active"])
def test_counting_is_as_exact_in_single_precision_as_the_distances_are(offset: float, average: str) -> None:
    """Many inactive triplets and few active ones: sums of counts times distances must not cancel."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (400,), generator=generator)
    centres = torch.nn.functional.normalize(torch.randn(10, 16, generator=generator), dim=1)
    noise = torch.nn.functional.normalize(torch.randn(400, 16, generator=generator), dim=1)
    embeddings = centres[labels] * 1.2 + noise * 0.55 + offset
    exact, of_exact = backward(losses.create("triplet", average=average), embeddings.double(), labels)
    value, gradient = backward(losses.create("triplet", average=average), embeddings, labels)
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert (gradient - of_exact).norm() < 1e-3 * of_exact.norm()


def test_no_cube_of_all_triplets_is_built() -> None:
    embeddings, labels = torch.randn(1500, 2), torch.arange(1500) % 3  # 3.4 billion places for triplets: 13 GB
    value, _ = backward(losses.create("triplet"), embeddings, labels)
    assert value > 0


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (Triplets(*torch.randn(3, 2, 2)), torch.tensor([0, 1]), ["None", "target", "(2,)"]),
        (
            Triplets(torch.randn(2, 3), torch.randn(2, 3), torch.randn(3, 3)),
            None,
            ["anchor", "negative", "(2, 3)", "(3, 3)"],
        ),
        (Triplets(*torch.randn(3, 2)), None, ["anchor", "2 dimensions", "(2,)"]),
        ((torch.randn(2, 2), torch.randn(2, 2)), torch.tensor([0, 1]), ["triplet", "tuple"]),
        (Triplets(torch.tensor([[torch.nan]]), torch.ones(1, 1), torch.ones(1, 1)), None, ["anchor", "NaN"]),
    ],
    ids=["labels", "lengths", "one_dimension", "pairs", "nan"],
)
def test_wrong_triplets_are_refused_with_what_came_and_the_fix(output: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("triplet")(output, target)
