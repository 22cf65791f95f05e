"""Metric losses of embeddings that have diverged: right, or infinite, or NaN, but never small."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Pairs, Triplets

DISTANCES = ("euclidean", "squared_euclidean")
KINDS: list[dict[str, Any]] = [
    {"margin": margin, "mining": mining} for margin in (0.2, "soft") for mining in ("all", "hard", "semi_hard")
] + [{"margin": margin, "swap": True} for margin in (0.2, "soft")]
OF_DISTANCES = [
    *(("triplet", {**kind, "distance": distance, "average": "all"}) for kind in KINDS for distance in DISTANCES),
    *(("triplet", {"margin": 0.2, "distance": distance}) for distance in DISTANCES),
    *(
        ("contrastive", {"power": power, "average": average, "distance": distance})
        for power in (1, 2)
        for average in ("all", "active", "balanced")
        for distance in DISTANCES
    ),
]
OF_ANGLES = [
    ("triplet", {"distance": "cosine"}),
    ("triplet", {"distance": "cosine", "mining": "hard"}),
    ("triplet", {"distance": "cosine", "mining": "semi_hard"}),
    ("contrastive", {"distance": "cosine"}),
    ("cosine_embedding", {}),
    ("circle", {}),
    ("supervised_contrastive", {}),
    ("supervised_contrastive", {"temperature": 0.01}),
    ("info_nce", {}),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1}),
]
SCALES = [(torch.float32, scale) for scale in (1e18, 1e20, 1e30)] + [
    (torch.bfloat16, 1e20),
    (torch.float64, 1e160),
    (torch.float64, 1e300),
]
each_of_distances = pytest.mark.parametrize(("name", "parameters"), OF_DISTANCES, ids=str)
each_scale = pytest.mark.parametrize(("dtype", "scale"), SCALES, ids=str)


def points(size: int) -> Tensor:
    return torch.randn(size, 5, generator=torch.Generator().manual_seed(size), dtype=torch.float64)


def labels(size: int) -> Tensor:
    return torch.arange(size) % 3


def ways(loss: Any, embeddings: Tensor, target: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield every way into a loss of a labelled batch, by name."""
    half, weight = len(embeddings) // 2, torch.arange(len(embeddings)) % 4 / 4
    same = target.unsqueeze(1) == target
    anchor, positive = (same & ~torch.eye(len(target), dtype=torch.bool)).nonzero(as_tuple=True)
    other, negative = (~same).nonzero(as_tuple=True)
    yield "batch", lambda batch: loss(batch, target)
    yield "weight", lambda batch: loss(batch, target, weight=weight.to(batch.dtype))
    yield "reference", lambda batch: loss(batch[:half], target[:half], reference=(batch[half:], target[half:]))
    if len(target) < 20:
        yield "indices", lambda batch: loss(batch, target, indices=(anchor, positive, other, negative))


@each_scale
@pytest.mark.parametrize("size", [12, 70])
@each_of_distances
def test_a_batch_that_has_diverged_is_right_or_infinite(
    name: str, parameters: dict[str, Any], size: int, dtype: torch.dtype, scale: float
) -> None:
    loss, target = losses.create(name, **parameters), labels(size)
    for way, call in ways(loss, points(size), target):
        embeddings = (points(size) * scale).to(dtype).requires_grad_()
        value = call(embeddings)
        assert value > scale / 1000, way
        if value.isfinite():
            (gradient,) = torch.autograd.grad(value, embeddings)
            assert gradient.isfinite().all()
            assert gradient.any()


@each_scale
@each_of_distances
def test_a_batch_that_has_diverged_is_right_or_infinite_when_transformed(
    name: str, parameters: dict[str, Any], dtype: torch.dtype, scale: float
) -> None:
    loss = losses.create(name, **parameters)
    embeddings = (points(12) * scale).to(dtype)
    _, value = torch.func.grad_and_value(lambda batch: loss(batch, labels(12)))(embeddings)
    assert value > scale / 1000
    items = losses.create(name, **parameters | {"reduction": "none"})(embeddings, labels(12))
    assert not items.isnan().any()
    assert items.sum() > scale / 1000


@each_scale
@pytest.mark.parametrize("distance", DISTANCES)
def test_pairs_and_triplets_that_have_diverged_are_right_or_infinite(
    distance: str, dtype: torch.dtype, scale: float
) -> None:
    first, second, third = (points(12) * scale).to(dtype).split(4)
    for average in ("all", "active", "balanced"):
        loss = losses.create("contrastive", average=average, distance=distance)
        assert loss(Pairs(first, second), torch.tensor([1, 0, 1, 0])) > scale / 1000
    for margin in (0.2, "soft"):
        for swap in (True, False):
            loss = losses.create("triplet", margin=margin, swap=swap, distance=distance)
            assert loss(Triplets(first, second, third)) > scale / 1000


@each_scale
@pytest.mark.parametrize("size", [12, 70])
@each_of_distances
def test_one_row_that_has_diverged_from_its_class_is_seen(
    name: str, parameters: dict[str, Any], size: int, dtype: torch.dtype, scale: float
) -> None:
    loss, target = losses.create(name, **parameters), labels(size)
    embeddings = points(size)
    embeddings[7] *= scale
    for way, call in ways(loss, embeddings, target):
        if way != "reference":  # where all of its class are as far away, which float32 cannot tell apart
            assert call(embeddings.to(dtype)) > scale / 1e5, way


@each_scale
@pytest.mark.parametrize("size", [12, 70])
@each_of_distances
def test_one_row_without_a_class_that_has_diverged_leaves_the_others_right(
    name: str, parameters: dict[str, Any], size: int, dtype: torch.dtype, scale: float
) -> None:
    """As a negative beyond every margin it costs nothing, however far it lies."""
    if parameters.get("mining") == "semi_hard":
        parameters = {**parameters, "average": "all"}
    loss, target = losses.create(name, **parameters), labels(size)
    target[7] = 9
    near, embeddings = points(size).to(dtype), points(size).to(dtype)
    near[7] *= 1e4
    embeddings[7] *= scale
    others = torch.arange(size) != 7
    for way, call in ways(loss, near, target):
        leaves = near.clone().requires_grad_(), embeddings.clone().requires_grad_()
        values = [call(leaf) for leaf in leaves]
        torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=0, msg=lambda text, way=way: f"{way}: {text}")
        gradients = [torch.autograd.grad(value, leaf)[0][others] for value, leaf in zip(values, leaves, strict=True)]
        tolerance = 1e-2 if dtype is torch.bfloat16 else 1e-5
        torch.testing.assert_close(gradients[1], gradients[0], rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize(
    ("dtype", "scale"), [*SCALES, (torch.float32, 1e-30), (torch.float64, 1e-170), (torch.float64, 1e-300)], ids=str
)
@pytest.mark.parametrize("size", [12, 70])
@pytest.mark.parametrize(("name", "parameters"), OF_ANGLES, ids=str)
def test_angles_do_not_depend_on_how_far_a_batch_has_diverged(
    name: str, parameters: dict[str, Any], size: int, dtype: torch.dtype, scale: float
) -> None:
    power = 2.0 ** round(torch.tensor(scale, dtype=torch.float64).log2().item())  # which rounds nothing
    loss, target, embeddings = losses.create(name, **parameters), labels(size), points(size).to(dtype)
    for way, call in ways(loss, embeddings, target):
        leaves = embeddings.clone().requires_grad_(), (embeddings * power).requires_grad_()
        values = [call(leaf) for leaf in leaves]
        torch.testing.assert_close(
            values[1], values[0], rtol=1e-5, atol=1e-7, msg=lambda text, way=way: f"{way}: {text}"
        )
        gradients = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
        if abs(scale) < 1e30:  # the gradient is in the unit of 1 / embedding
            torch.testing.assert_close(gradients[1].double() * power, gradients[0].double(), rtol=1e-3, atol=1e-5)
    items = losses.create(name, **parameters, reduction="none")
    torch.testing.assert_close(
        items(embeddings * power, target), items(embeddings, target), rtol=1e-5, atol=1e-7, equal_nan=False
    )


@pytest.mark.parametrize("size", [12, 70])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("name", "parameters"), [*OF_DISTANCES, *OF_ANGLES], ids=str)
def test_a_later_batch_of_no_numbers_is_never_a_number(
    name: str, parameters: dict[str, Any], bad: float, size: int
) -> None:
    """Values are looked at on the first batch only; from then on the loss has to say it."""
    loss, target = losses.create(name, **parameters), labels(size)
    for way, call in ways(loss, points(size).float(), target):
        call(points(size).float())
        for rows in (slice(None), slice(5, 6)):
            embeddings = points(size).float()
            embeddings[rows] = bad
            assert not call(embeddings).isfinite(), way
