"""Small batches in one piece, in NumPy and in torch: equal to the definition, in few operations."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.ops.dense import differentiable
from losses.ops.dense.arrays import means
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.dense.triplets import ListedPositives
from losses.ops.tiles.sizes import block_sizes
from tests.operations import operations
from tests.ops.tile_cases import CASES, TileCase, function, one_of_each, plainly, small, tile_batch

FEW, FEW_OF_SEMI_HARD = 60, 80  # operations, forward and backward


@pytest.fixture(params=["arrays", "tensors"], autouse=True, scope="module")
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have plain means made in NumPy where they can be, or none."""
    with nullcontext() if request.param == "arrays" else block_sizes(dense_in_arrays=0):
        yield request.param


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collect what results were made from: a comparison in torch, or a mean in NumPy."""
    found: list[object] = []

    def noting(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def noted(first: object, *rest: Any, **options: Any) -> Tensor:
            found.append(first)
            return original(first, *rest, **options)

        return noted

    for module in (losses.ops.dense.batch, losses.metric.info_nce):
        monkeypatch.setattr(module, "differentiable", noting(differentiable.differentiable))
    monkeypatch.setattr(means, "written", noting(means.written))
    return found


def mean_and_gradient(of_embeddings: Any, embeddings: Tensor, above: float = 1.0) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().requires_grad_()
    value = of_embeddings(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, torch.tensor(above, dtype=value.dtype))[0]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 20).map(lambda half: 2 * half),
    balance=st.sampled_from(["balanced", "imbalanced", "singletons", "one"]),
    dimension=st.integers(2, 9),
    seed=st.integers(0, 1000),
)
def test_the_mean_in_one_piece_equals_the_definition(
    case: TileCase, size: int, balance: str, dimension: int, seed: int
) -> None:
    batch = tile_batch(size, balance, dimension=dimension, seed=seed)
    of_embeddings = function(case, batch)
    actual = mean_and_gradient(of_embeddings, batch.embeddings, -0.7)
    with plainly():
        expected = mean_and_gradient(of_embeddings, batch.embeddings, -0.7)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", [2, 32, 64, 128])
def test_small_batches_take_the_dense_path_and_equal_their_definition(
    case: TileCase, size: int, made: list[object]
) -> None:
    batch = tile_batch(size, dimension=16)._replace(labels=torch.arange(size) % max(1, size // 4))
    of_embeddings = function(case, batch)
    actual = mean_and_gradient(of_embeddings, batch.embeddings)
    assert made
    with plainly():
        torch.testing.assert_close(actual, mean_and_gradient(of_embeddings, batch.embeddings), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_backward_are_few_operations(case: TileCase) -> None:
    batch = tile_batch(64, dimension=128)._replace(labels=torch.arange(64) % 16)
    of_embeddings, leaf = function(case, batch), batch.embeddings.float().requires_grad_()
    of_embeddings(leaf)  # the first batch is looked at
    count = operations(lambda: of_embeddings(leaf))
    assert count <= (FEW_OF_SEMI_HARD if case.parameters.get("mining") == "semi_hard" else FEW)


@one_of_each
def test_the_second_derivative_is_that_of_the_definition(case: TileCase) -> None:
    batch, results = small(), []
    for route in (nullcontext(), plainly()):
        leaf = batch.embeddings.clone().requires_grad_()
        with route:
            (gradient,) = torch.autograd.grad(function(case, batch)(leaf), leaf, create_graph=True)
            results.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    torch.testing.assert_close(*results)


@one_of_each
def test_a_graph_is_kept_if_asked_for_and_freed_otherwise(case: TileCase) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    value = function(case, batch)(leaf)
    once, again = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    assert once.equal(again)
    value.backward()
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


@one_of_each
def test_nothing_is_derived_where_nobody_asks(case: TileCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(DenseMatrix, "gradients")
    batch = small()
    assert not function(case, batch)(batch.embeddings).requires_grad
    with torch.no_grad():
        assert not function(case, batch)(batch.embeddings.clone().requires_grad_()).requires_grad


@one_of_each
def test_embeddings_may_lie_anyhow_in_memory(case: TileCase) -> None:
    batch = small()
    scattered = batch.embeddings.mT.contiguous().mT
    assert not scattered.is_contiguous()
    torch.testing.assert_close(
        mean_and_gradient(function(case, batch), scattered), mean_and_gradient(function(case, batch), batch.embeddings)
    )


@one_of_each
def test_only_a_set_that_asks_for_a_gradient_gets_one(case: TileCase) -> None:
    if case.of_pairs:
        return
    batch = tile_batch(12, others=15)
    assert batch.reference is not None
    others, labels = batch.reference
    loss = losses.create(case.name, **case.parameters)
    for asking in ((True, False), (False, True), (True, True)):
        leaves = [
            points.clone().requires_grad_(wanted)
            for points, wanted in zip((batch.embeddings, others), asking, strict=True)
        ]
        loss(leaves[0], batch.labels, reference=(leaves[1], labels)).backward()
        assert tuple(leaf.grad is not None for leaf in leaves) == asking


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-5])
def test_near_points_are_told_apart(distance: str, apart: float, made: list[object]) -> None:
    loss = losses.create("contrastive", distance=distance, power=1, average="balanced")
    embeddings = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embeddings[4] = embeddings[0] + apart * embeddings[1]
    value, gradient = mean_and_gradient(lambda leaf: loss(leaf, torch.arange(8) % 4), embeddings)
    one_by_one = distance == "euclidean" and apart > 0
    assert bool(made) == (one_by_one or (apart == 0 and distance != "cosine")), "equal points need no telling apart"
    if apart == 1e-5:  # what is nearer a product, which the definition is, takes for equal
        with plainly():
            expected = mean_and_gradient(lambda leaf: loss(leaf, torch.arange(8) % 4), embeddings)
        torch.testing.assert_close((value, gradient), expected, rtol=1e-5, atol=1e-6)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("case", [case for case in CASES if "mining" not in case.parameters], ids=str)
@pytest.mark.parametrize("size", [12, 40])
def test_equal_points_stand_at_distance_zero_in_one_piece(case: TileCase, size: int, made: list[object]) -> None:
    batch = tile_batch(size, dimension=5)
    embeddings = batch.embeddings.detach().clone()
    embeddings[1::3] = embeddings[0]  # of one class and of others
    of_embeddings = function(case, batch)
    actual = mean_and_gradient(of_embeddings, embeddings)
    with plainly():
        expected = mean_and_gradient(of_embeddings, embeddings)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["active", "all"])
@pytest.mark.parametrize("margin", [0.0, 0.3, "soft"])
@pytest.mark.parametrize("per_class", [2, 4, 5])
def test_anchors_with_as_many_positives_each_cost_what_they_do_one_by_one(
    route: str, per_class: int, margin: Any, average: Any, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if route == "arrays":
        return
    loss = losses.create("triplet", margin=margin, average=average)
    labels = torch.randperm(20, generator=torch.Generator().manual_seed(per_class)) // per_class
    embeddings = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = torch.linspace(0, 2, 20, dtype=torch.float64) if weighted else None
    counted = []
    original = ListedPositives.of_each
    monkeypatch.setattr(ListedPositives, "of_each", lambda *each: counted.append(original(*each)) or counted[-1])
    found = mean_and_gradient(lambda leaf: loss(leaf, labels, weight=weight), embeddings)
    assert counted == [per_class - 1]
    monkeypatch.setattr(ListedPositives, "of_each", lambda *_: 0)
    expected = mean_and_gradient(lambda leaf: loss(leaf, labels, weight=weight), embeddings)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


IN_ARRAYS = [
    ("triplet", {}),
    ("triplet", {"average": "all"}),
    ("contrastive", {}),
    ("contrastive", {"power": 1, "average": "balanced"}),
    ("contrastive", {"positive_margin": 0.2, "average": "active"}),
    ("supervised_contrastive", {}),
    ("supervised_contrastive", {"temperature": 1 / 30}),
    ("info_nce", {}),
    ("info_nce", {"temperature": 1 / 30}),
    ("circle", {}),
    ("multi_similarity", {}),
]


@pytest.mark.parametrize(("name", "parameters"), IN_ARRAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_means_of_few_points_are_made_in_arrays(
    route: str, name: str, parameters: dict[str, Any], dtype: torch.dtype, made: list[object]
) -> None:
    batch, loss = tile_batch(32, dimension=16), losses.create(name, **parameters)
    leaf = batch.embeddings.to(dtype).requires_grad_()
    loss(leaf, batch.labels)
    assert [type(each) is tuple for each in made] == [route == "arrays"]
    made.clear()
    loss(leaf, batch.labels, weight=torch.ones(32))
    loss(leaf, batch.labels, reference=(leaf.detach(), batch.labels))
    assert not any(type(each) is tuple for each in made)


@pytest.mark.parametrize("negatives", ["second", "both"])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("asking", [(True, True), (True, False), (False, True)])
def test_means_of_matching_rows_are_those_of_the_definition(
    route: str, negatives: Any, temperature: float, asking: tuple[bool, bool], made: list[object]
) -> None:
    loss, generator = losses.InfoNCELoss(negatives=negatives, temperature=temperature), torch.Generator().manual_seed(2)
    points = [torch.randn(20, 6, generator=generator, dtype=torch.float64).requires_grad_(wants) for wants in asking]
    found = []
    for way in (nullcontext(), plainly()):
        with way:
            value = loss(losses.Pairs(*points))
            found.append([value, *torch.autograd.grad(value, [each for each in points if each.requires_grad])])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    in_arrays = route == "arrays" and all(asking) and temperature > 0.01
    assert [type(each) is tuple for each in made] == [in_arrays]


ENDS = [
    (128, "supervised_contrastive", {"temperature": 1 / 30}, True),
    (129, "supervised_contrastive", {}, False),
    (128, "supervised_contrastive", {"temperature": 1 / 31}, False),
    (32, "info_nce", {"temperature": 1 / 31}, False),
    (32, "multi_similarity", {"beta": 40.0, "base": 1.0}, True),
    (32, "multi_similarity", {"beta": 40.5, "base": 1.0}, False),
    (32, "multi_similarity", {"mining_epsilon": 0.1}, False),
    (128, "circle", {}, True),
    (32, "triplet", {"margin": "soft"}, False),
    (32, "triplet", {"swap": True}, False),
    (32, "triplet", {"mining": "hard"}, False),
    (32, "contrastive", {"distance": "cosine"}, False),
]


@pytest.mark.parametrize(("size", "name", "parameters", "taken"), ENDS, ids=str)
def test_arrays_are_taken_up_to_where_the_change_log_says(
    route: str, size: int, name: str, parameters: dict[str, Any], taken: bool, made: list[object]
) -> None:
    leaf = torch.randn(size, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, loss = torch.arange(size) // 4, losses.create(name, **parameters)
    loss(leaf, labels)
    assert any(type(each) is tuple for each in made) == (taken and route == "arrays")
    made.clear()
    indices = torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([4, 8])
    loss(leaf, labels, indices)
    loss(leaf.detach(), labels)
    assert not any(type(each) is tuple for each in made)
