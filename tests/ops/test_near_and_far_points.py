"""Losses in blocks of points that nearly coincide, or lie far away, against exact distances."""

import pytest
import torch
from torch import Tensor

import losses
from tests.ops.tile_cases import (
    DISTANCES,
    ONE_OF_EACH,
    TileBatch,
    TileCase,
    answers,
    assert_near,
    plainly,
    tile_batch,
    total,
)


def exactly(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Return all distances from the differences of the points, in float64, with gradient 0 between equal ones."""
    if distance == "cosine":
        lengths = [points.norm(dim=1, keepdim=True) for points in (first, second)]
        zero = (lengths[0] == 0) | (lengths[1] == 0).mT
        first, second = (
            points / length.masked_fill(length == 0, 1) for points, length in zip((first, second), lengths, strict=True)
        )
        return torch.where(zero, 1 - first @ second.mT, (first.unsqueeze(1) - second).square().sum(2) / 2)
    squared = (first.unsqueeze(1) - second).square().sum(2)
    if distance == "squared_euclidean":
        return squared
    return torch.where(squared > 0, squared.masked_fill(squared == 0, 1).sqrt(), 0.0)


def definition(case: TileCase, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of a loss of distances over a batch from a cube of all its triplets or the matrix of its pairs."""
    settings = {"distance": "euclidean", "mining": "all", "power": 2, **case.parameters}
    distances, same = exactly(embeddings, embeddings, settings["distance"]), labels.unsqueeze(1) == labels
    itself = torch.eye(len(labels), dtype=torch.bool)
    margin = settings["margin"]
    if case.name == "contrastive":
        excess = torch.where(same, distances - settings.get("positive_margin", 0), margin - distances).clamp(min=0)
        return (excess ** settings["power"] / settings["power"])[torch.ones_like(same).triu(1)].sum()
    triple = (same & ~itself).unsqueeze(2) & ~same.unsqueeze(1)
    difference = distances.unsqueeze(2) - distances.unsqueeze(1)
    if settings["mining"] == "hard":
        far = distances.masked_fill(~same | itself, -torch.inf).amax(1)
        near = distances.masked_fill(same, torch.inf).amin(1)
        exists = triple.any(2).any(1)
        return (far - near + margin)[exists].clamp(min=0).sum()
    if settings["mining"] == "semi_hard":
        rival = distances.unsqueeze(1).expand_as(triple)
        farther = rival.masked_fill(~triple | (difference >= 0), torch.inf).amin(2)
        farthest = rival.masked_fill(~triple, -torch.inf).amax(2)
        return (
            (distances - torch.where(farther < torch.inf, farther, farthest) + margin)[triple.any(2)].clamp(min=0).sum()
        )
    costs = (
        torch.logaddexp(difference, torch.zeros_like(difference))
        if margin == "soft"
        else (difference + margin).clamp(min=0)
    )
    return costs[triple].sum()


def of_distances(margin: float = 1.0) -> list[TileCase]:
    return [
        *(
            TileCase("triplet", {"margin": kind, "mining": mining, "distance": distance})
            for kind, mining in ((margin, "all"), ("soft", "all"), (margin, "semi_hard"), (margin, "hard"))
            for distance in DISTANCES
        ),
        *(
            TileCase("contrastive", {"margin": margin, "power": power, "distance": distance, "average": average})
            for power, average in ((1, "all"), (2, "active"))
            for distance in DISTANCES
        ),
    ]


def compare_with_definition(
    case: TileCase, embeddings: Tensor, labels: Tensor, tolerance: float, *, rows: bool = True, ties: bool = False
) -> None:
    """Compare value and gradient with the definition's; the gradient not where ties leave open who is chosen."""
    mine, exact = embeddings.detach().requires_grad_(), embeddings.detach().double().requires_grad_()
    results = total(case, TileBatch(mine, labels)).sum.sum(), definition(case, exact, labels)
    gradients = [torch.autograd.grad(result, leaf)[0] for result, leaf in zip(results, (mine, exact), strict=True)]
    assert results[0].isfinite()
    assert_near([results[0].detach()], [results[1].detach()], tolerance)
    assert gradients[0].isfinite().all()
    if not (ties and case.parameters.get("mining") in ("hard", "semi_hard")):
        assert_near(gradients[:1], gradients[1:], tolerance, rows)


# a distance from a product in float64 is exact to 1e-16 of the square of the spread
TOLERANCES = {1e-4: 1e-5, 1e-6: 1e-4}
each_of_distances = pytest.mark.parametrize("case", of_distances(), ids=str)


@pytest.mark.parametrize("dimension", [2, 32])
@pytest.mark.parametrize("apart", TOLERANCES)
@each_of_distances
def test_near_duplicates_in_single_precision_keep_value_and_direction(
    case: TileCase, apart: float, dimension: int
) -> None:
    random = torch.Generator().manual_seed(1)
    embeddings = torch.randn(12, dimension, generator=random)
    for row in (0, 4):  # a pair within a class and a pair across two
        embeddings[row + 1] = embeddings[row] + apart * torch.randn(dimension, generator=random)
    compare_with_definition(case, embeddings, torch.tensor([0, 0, 1, 1, 2, 0, 1, 2, 2, 0, 1, 2]), TOLERANCES[apart])


@pytest.mark.parametrize("apart", TOLERANCES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_pair_of_near_duplicates_alone_keeps_its_direction(distance: str, apart: float) -> None:
    """Here the gradient of two points is nothing but the direction of their difference."""
    random = torch.Generator().manual_seed(2)
    embeddings = torch.randn(6, 3, generator=random)
    embeddings[3:] = embeddings[:3] + apart * torch.randn(3, 3, generator=random)
    case = TileCase("contrastive", {"margin": 1e-30, "power": 1, "distance": distance})
    compare_with_definition(case, embeddings, torch.tensor([0, 1, 2, 0, 1, 2]), TOLERANCES[apart])


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
def test_near_duplicates_far_from_the_origin_keep_value_and_direction(distance: str) -> None:
    """The squares of coordinates around 100 leave no digits for a distance of 1e-4, unless their centre is taken
    off."""
    random = torch.Generator().manual_seed(2)
    embeddings = torch.randn(6, 3, generator=random, dtype=torch.float64) + 100
    embeddings[3:] = embeddings[:3] + 1e-4 * torch.randn(3, 3, generator=random, dtype=torch.float64)
    case = TileCase("contrastive", {"margin": 1e-30, "power": 1, "distance": distance})
    compare_with_definition(case, embeddings, torch.tensor([0, 1, 2, 0, 1, 2]), 1e-6)


@each_of_distances
def test_two_tight_clusters_in_single_precision_equal_exact_distances(case: TileCase) -> None:
    random = torch.Generator().manual_seed(3)
    centres = torch.tensor([[1.0, 0.0, 0.5, 0.0], [-1.0, 0.4, 0.0, 2.0]])
    embeddings = centres.repeat_interleave(10, 0) + 1e-4 * torch.randn(20, 4, generator=random)
    compare_with_definition(case, embeddings, torch.arange(20) // 10, 1e-5)
    compare_with_definition(case, embeddings, torch.arange(20) % 2, 1e-5)


@pytest.mark.parametrize("power", [-25, 25])
@each_of_distances
def test_embeddings_of_any_magnitude_in_single_precision_equal_exact_distances(case: TileCase, power: int) -> None:
    distance = case.parameters["distance"]
    if case.parameters.get("power") == 2 and distance != "cosine":
        power //= 3  # the value is a power of the distance, and has to stay in the range of the dtype
    scale = 10.0 ** (power * 3 // 5 if distance == "squared_euclidean" else power)
    unit = {"euclidean": scale, "squared_euclidean": scale**2, "cosine": 1.0}[distance]
    if case.parameters["margin"] != "soft":
        case = case._replace(parameters={**case.parameters, "margin": min(unit, 1.0)})
    embeddings = torch.randn(10, 3, generator=torch.Generator().manual_seed(4)) * scale
    compare_with_definition(case, embeddings, torch.arange(10) % 3, 1e-5)


@pytest.mark.parametrize("factor", [1e3, 1e6])
@each_of_distances
def test_a_far_outlier_leaves_the_precision_of_the_others(case: TileCase, factor: float) -> None:
    random = torch.Generator().manual_seed(5)
    embeddings, labels = torch.randn(20, 4, generator=random), torch.arange(20) % 3
    embeddings[7] *= factor
    labels[7] = 3  # a negative of all and an anchor of nothing: its distances are too coarse to compare
    mine, exact = embeddings.requires_grad_(), embeddings.detach().double().requires_grad_()
    results = total(case, TileBatch(mine, labels)).sum, definition(case, exact, labels)
    gradients = [torch.autograd.grad(result, leaf)[0] for result, leaf in zip(results, (mine, exact), strict=True)]
    ordinary = torch.arange(20) != 7
    assert_near([results[0].detach()], [results[1].detach()], 1e-5)
    assert_near([gradients[0][ordinary]], [gradients[1][ordinary]], 1e-5, rows=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("case", "dimension"),
    [
        (case, dimension)
        for case in of_distances()
        for dimension in (1, 3, 100)
        if dimension > 1 or case.parameters["distance"] != "cosine"  # where all lie at 0 or 2
    ],
    ids=str,
)
def test_exact_duplicates_among_other_points_lie_at_distance_and_gradient_zero(
    case: TileCase, dimension: int, dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(6)
    embeddings = torch.randn(14, dimension, generator=random) * 3 + 1
    embeddings[5], embeddings[9], embeddings[10] = embeddings[0], embeddings[0], embeddings[1]
    labels = torch.tensor([0, 1, 2, 0, 1, 0, 2, 0, 1, 1, 2, 2, 0, 1])
    tolerance = 1e-5 if dtype is torch.float32 else 1e-11
    compare_with_definition(case, embeddings.to(dtype), labels, tolerance, rows=False, ties=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dimension", [3, 200])
def test_pairs_of_exact_duplicates_cost_exactly_nothing(distance: str, dimension: int, dtype: torch.dtype) -> None:
    points = torch.randn(9, dimension, generator=torch.Generator().manual_seed(7)).to(dtype) * 5 + 2
    embeddings = torch.cat([points, points, points]).requires_grad_()
    loss = losses.create("contrastive", power=1, margin=1e-30, distance=distance, reduction="sum")
    value = loss(embeddings, torch.arange(9).repeat(3))
    (gradient,) = torch.autograd.grad(value, embeddings)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in of_distances(margin=0.8)  # a margin of 1 is a kink here
        # all tie at 1
        if not (case.parameters["distance"] == "cosine" and case.parameters.get("mining") in ("hard", "semi_hard"))
    ],
    ids=str,
)
def test_vectors_of_zeros_lie_as_far_as_the_definition_says(case: TileCase) -> None:
    embeddings = torch.randn(9, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    embeddings[[0, 3, 4]] = 0
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 2, 2, 0])
    mine = embeddings.clone().requires_grad_()
    value = total(case, TileBatch(mine, labels)).sum
    torch.testing.assert_close(value.detach(), definition(case, embeddings, labels))
    (gradient,) = torch.autograd.grad(value, mine)
    assert gradient.isfinite().all()
    with plainly():
        plain = torch.autograd.grad(total(case, TileBatch(mine, labels)).sum, mine)[0]
    assert_near([gradient], [plain], 1e-11)


@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if case.name not in ("triplet", "contrastive")], ids=str)
def test_lengths_of_vectors_do_not_matter_to_angles_in_single_precision(case: TileCase) -> None:
    batch = tile_batch(12)
    batch = batch._replace(embeddings=batch.embeddings.float().double())
    with plainly():
        expected = answers(case, batch)
    for scale in (1e-25, 1e25):
        value, weight, gradient = answers(case, batch._replace(embeddings=batch.embeddings * scale), torch.float32)
        assert_near([value, weight, gradient * scale], expected, 1e-5)
