"""What a miner's indices say equals the same with a row gathered for each pair, in value, gradient and items."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import losses
from losses.abstract import embedding
from losses.adapters.pytorch_metric_learning import miners
from losses.checking.case import several_blocks
from losses.ops.indexed import pairs, totals
from losses.ops.tiles.sizes import block_sizes
from tests.largest_tensor import Largest

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("triplet", {"distance": distance}) for distance in DISTANCES),
    *(("triplet", {"average": "all", "swap": swap, "distance": distance}) for swap in (0, 1) for distance in DISTANCES),
    ("triplet", {"margin": "soft"}),
    ("triplet", {"margin": "soft", "swap": True}),
    *(("contrastive", {"average": average}) for average in ("all", "active", "balanced")),
    *(("contrastive", {"power": 1, "average": "balanced", "distance": distance}) for distance in DISTANCES),
    ("contrastive", {"positive_margin": 0.3, "margin": 2.0}),
    ("cosine_embedding", {"margin": 0.2}),
    ("circle", {"scale": 8.0}),
    ("supervised_contrastive", {}),
    ("supervised_contrastive", {"temperature": 0.01}),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1}),
    ("info_nce", {}),
]
CASES = [(name, {**given, "swap": bool(given["swap"])} if "swap" in given else given) for name, given in CASES]
NAMES = ("triplet", "contrastive", "circle", "supervised_contrastive", "multi_similarity", "info_nce")


class Mined(NamedTuple):
    """A batch, and what a miner says of it."""

    embeddings: Tensor
    labels: Tensor
    reference: tuple[Tensor, Tensor] | None
    indices: tuple[Tensor, ...]

    def context(self) -> dict[str, Any]:
        return {"indices": self.indices, "reference": self.reference}


@contextmanager
def gathered() -> Iterator[None]:
    """Gather rows for each pair of a list, and mask the whole matrix for anchors, as the definitions say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "indexable", lambda *_: False)
        for module in (pairs, totals):
            patch.setattr(module, "is_eager", lambda *_: False)
        patch.setattr(pairs, "are_many", lambda *_: False)
        yield


def mined(
    size: int, *, length: int = 4, reference: int | None = None, few: bool = False, dtype: torch.dtype = torch.float64
) -> Mined:
    """Return random indices, some of them repeated and some of points beside themselves."""
    random = torch.Generator().manual_seed(size)
    embeddings = torch.randn(size, 5, generator=random, dtype=torch.float64)
    embeddings[1] = embeddings[0]
    others = torch.randn(reference or 1, 5, generator=random, dtype=torch.float64)
    width = reference or size
    pairs, negatives = (size // 2, size // 2) if few else (4 * size, 11 * size)
    negatives = pairs if length == 3 else negatives
    anchor, second = (torch.randint(0, size, (many,), generator=random) for many in (pairs, negatives))
    positive, negative = (torch.randint(0, width, (many,), generator=random) for many in (pairs, negatives))
    positive[0], anchor[0], second[1] = 0, 0, 1
    anchor[3:5], positive[3:5], second[3:5], negative[3:5] = 2, 3 % width, 2, 3 % width
    negative[1] = 1 % width
    indices = (anchor, positive, negative) if length == 3 else (anchor, positive, second, negative)
    labels = torch.arange(size) % 3
    given = None if reference is None else (others.to(dtype).requires_grad_(), torch.arange(width) % 3)
    return Mined(embeddings.to(dtype).requires_grad_(), labels, given, indices)


def answers(loss: Any, batch: Mined, weight: Tensor | None = None) -> list[Tensor]:
    """Return the mean, the total, all items, and the gradients of each."""
    results: list[Tensor] = []
    leaves = [batch.embeddings] if batch.reference is None else [batch.embeddings, batch.reference[0]]
    for reduction in ("mean", "sum", "none"):
        loss.reduction = reduction
        value = loss(batch.embeddings, batch.labels, weight=weight, **batch.context())
        slopes = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view_as(value)
        value.backward(slopes, retain_graph=True)
        once = [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]
        value.backward(slopes)
        for leaf, gradient in zip(leaves, once, strict=True):
            torch.testing.assert_close(leaf.grad, 2 * gradient)
            leaf.grad = None
        results += [value.detach(), *once]
    total = loss.total(batch.embeddings, batch.labels, weight=weight, **batch.context())
    return [*results, total.sum.detach(), torch.as_tensor(total.denominator).double()]


def require_alike(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().amax()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(size, 1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reference", [None, 2, 23])
@pytest.mark.parametrize("length", [3, 4])
@pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
def test_indices_equal_gathered_rows(
    name: str, parameters: dict[str, Any], length: int, reference: int | None, weighted: bool
) -> None:
    loss = losses.create(name, **parameters)
    for size in (13, 33):
        batch = mined(size, length=length, reference=reference)
        weight = torch.linspace(0, 2, size, dtype=torch.float64) if weighted else None
        with gathered():
            expected = answers(loss, batch, weight)
        require_alike(answers(loss, batch, weight), expected, 1e-12)
        with several_blocks():
            require_alike(answers(loss, batch, weight), expected, 1e-12)
        with block_sizes(strip=50, exact=0):
            require_alike(answers(loss, batch, weight), expected, 1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [3, 4])
def test_few_indices_equal_gathered_rows(name: str, length: int) -> None:
    loss, batch = losses.create(name), mined(40, length=length, few=True)
    with gathered():
        expected = answers(loss, batch)
    require_alike(answers(loss, batch), expected, 1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reference", [None, 90])
def test_in_single_precision_indices_equal_gathered_rows(name: str, reference: int | None) -> None:
    loss, batch = losses.create(name), mined(100, length=3, reference=reference, dtype=torch.float32)
    with gathered():
        expected = answers(loss, batch)
    require_alike(answers(loss, batch), expected, 2e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("away", [0.0, 30.0])
def test_points_that_nearly_coincide_are_told_apart(distance: str, away: float) -> None:
    random = torch.Generator().manual_seed(0)
    point, moves = torch.randn(1, 8, generator=random), torch.randn(80, 8, generator=random)
    batch = mined(80, length=3, dtype=torch.float32)
    batch = batch._replace(embeddings=(point + away + 1e-4 * moves).requires_grad_())
    loss = losses.ContrastiveLoss(distance=distance, margin=1e-3, power=1)
    with gathered():
        exact = answers(loss, batch._replace(embeddings=batch.embeddings.detach().double().requires_grad_()))
    require_alike([part.double() for part in answers(loss, batch)], exact, 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [3, 4])
def test_second_derivatives_over_indices_are_those_of_the_definition(name: str, length: int) -> None:
    loss, batch = losses.create(name), mined(10, length=length)
    if name == "circle":  # whose weights are constants in the gradient
        pytest.skip("its gradient is not the derivative of its value")
    parts = []
    for context in (gathered(), several_blocks()):
        with context:
            value = loss(batch.embeddings, batch.labels, **batch.context())
            (gradient,) = torch.autograd.grad(value, batch.embeddings, create_graph=True)
            parts.append(torch.autograd.grad(gradient.square().sum(), batch.embeddings)[0])
    torch.testing.assert_close(parts[1], parts[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [3, 4])
def test_no_row_is_gathered_for_each_pair(name: str, length: int) -> None:
    size, dimension = 96, 64
    labels = torch.arange(size) % 12
    same = labels.unsqueeze(1) == labels
    negative = ~same
    positive = same & ~torch.eye(size, dtype=torch.bool)
    triplets = torch.nonzero(positive.unsqueeze(2) & negative.unsqueeze(1)).unbind(1)
    pairs = (*positive.nonzero().unbind(1), *negative.nonzero().unbind(1))
    indices = tuple(index.clone() for index in (triplets if length == 3 else pairs))
    embeddings = torch.randn(size, dimension).requires_grad_()
    loss = losses.create(name)
    with block_sizes(strip=1 << 10), Largest() as mode:
        loss(embeddings, labels, indices).backward()
    # of what is made, nothing is larger than the indices, but the buffers of one block
    assert mode.elements <= max(5 * size**2, len(indices[0]))
    assert mode.elements < len(indices[-1]) * dimension / 8


@pytest.mark.parametrize("name", NAMES)
def test_what_needs_no_gradient_gets_none(name: str) -> None:
    batch = mined(30, length=3, reference=20)
    assert batch.reference is not None
    loss = losses.create(name)
    for wanted in ((True, False), (False, True), (False, False)):
        points = [
            part.detach().requires_grad_(needed)
            for part, needed in zip((batch.embeddings, batch.reference[0]), wanted, strict=True)
        ]
        value = loss(points[0], batch.labels, batch.indices, reference=(points[1], batch.reference[1]))
        assert value.requires_grad is any(wanted)
        if any(wanted):
            value.backward()
        assert [part.grad is not None for part in points] == list(wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("length", [3, 4])
@pytest.mark.parametrize("name", losses.available("metric"))
def test_a_value_over_indices_can_be_scaled_in_place(name: str, length: int, dtype: torch.dtype) -> None:
    """``loss /= steps``, as gradients are accumulated."""
    points, labels = torch.randn(12, 4, dtype=dtype).requires_grad_(), torch.arange(12) % 3
    miner = miners.BatchHardMiner() if length == 3 else miners.MultiSimilarityMiner(epsilon=0.5)
    indices = miner(points, labels)
    loss = losses.create(name)
    (expected,) = torch.autograd.grad(loss(points, labels, indices), points)
    value = loss(points, labels, indices)
    value /= 4
    torch.testing.assert_close(torch.autograd.grad(value, points)[0], expected / 4)
