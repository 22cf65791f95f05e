"""Distances of a small batch measured one by one, and where a product measures them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import losses
from losses.ops.dense.one_by_one import PairDistances, Places, places_of_pairs
from losses.ops.numerics.constants import as_tensor, constant
from losses.ops.tiles.sizes import block_sizes
from tests.ops.tile_cases import CASES, TileCase, function, plainly, tile_batch

EUCLIDEAN = [
    case
    for case in CASES
    if case.name in ("contrastive", "triplet")
    and case.parameters["distance"] == "euclidean"
    and "mining" not in case.parameters
]


def value_and_gradient(of_embeddings: object, points: Tensor) -> tuple[Tensor, Tensor]:
    leaf = points.detach().requires_grad_()
    value = of_embeddings(leaf)  # type: ignore[operator]
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("case", EUCLIDEAN, ids=str)
@settings(max_examples=20, deadline=None)
@given(size=st.integers(2, 24), dimension=st.integers(2, 9), weighted=st.booleans(), seed=st.integers(0, 1000))
def test_one_by_one_and_by_a_product_they_equal_the_definition(
    case: TileCase, size: int, dimension: int, weighted: bool, seed: int
) -> None:
    batch = tile_batch(2 * size, "imbalanced", dimension=dimension, seed=seed)
    if weighted:
        weight = torch.linspace(0, 3, 2 * size, dtype=torch.float64)
        batch = batch._replace(weight=weight)
    of_embeddings = function(case, batch)
    one_by_one = value_and_gradient(of_embeddings, batch.embeddings)
    with block_sizes(one_by_one=0):
        by_product = value_and_gradient(of_embeddings, batch.embeddings)
    with plainly():
        expected = value_and_gradient(of_embeddings, batch.embeddings)
    torch.testing.assert_close(one_by_one, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_product, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-8, 1e8, 1e17])
def test_whatever_the_unit_of_the_points_a_direction_is_kept(name: str, scale: float) -> None:
    points = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    margin = 2.0 * scale
    power = {"power": 1} if name == "contrastive" else {}
    loss = losses.create(name, margin=margin, **power)
    value, gradient = value_and_gradient(lambda leaf: loss(leaf, labels), points * scale)
    expected = value_and_gradient(lambda leaf: loss(leaf, labels), (points * scale).double())
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-4, atol=1e-6)


def test_points_that_are_equal_or_out_of_range_or_long_are_left_to_a_product() -> None:
    points = torch.randn(6, 3)
    assert PairDistances.of(points) is not None
    equal = points.clone()
    equal[3] = equal[0]
    undefined = points.clone()
    undefined[2, 1] = torch.nan
    for others in (equal, undefined, points * 1e20, points * 1e-20, points[:1], points[:0], torch.randn(6, 1 << 15)):
        assert PairDistances.of(others) is None


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_widened_before(name: str, dtype: torch.dtype) -> None:
    points, labels = torch.randn(16, 8).to(dtype), torch.arange(16) % 4
    value, gradient = value_and_gradient(lambda leaf: losses.create(name)(leaf, labels), points)
    expected = value_and_gradient(lambda leaf: losses.create(name)(leaf, labels), points.double())
    assert gradient.dtype is dtype
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected[1].double(), rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "circle", "multi_similarity", "supervised_contrastive"])
def test_what_is_kept_from_call_to_call_serves_any_later_one(name: str) -> None:
    as_tensor.cache_clear()
    places_of_pairs.cache_clear()
    points, labels, loss = torch.randn(10, 4), torch.arange(10) % 5, losses.create(name)
    with torch.inference_mode():
        loss(points, labels)
    expected = value_and_gradient(lambda leaf: loss(leaf, labels), points)
    with torch.device("meta"):  # where what is made anew holds no values
        as_tensor.cache_clear()
        places_of_pairs.cache_clear()
        found = value_and_gradient(lambda leaf: loss(leaf, labels), points)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(value_and_gradient(lambda leaf: loss(leaf, labels), points), expected)


def test_places_are_those_of_pdist_and_stay() -> None:
    points = torch.arange(5.0).square().unsqueeze(1)
    places, listed = Places(5), torch.pdist(points)
    square = torch.cdist(points, points)
    torch.testing.assert_close(square.view(-1)[places.in_square], listed)
    torch.testing.assert_close(listed[places.of_entries].fill_diagonal_(0), square)
    torch.testing.assert_close((points[places.first] - points[places.second]).norm(dim=1), listed)
    losses.create("triplet")(points.requires_grad_(), torch.arange(5) % 2).backward()
    for name, part in vars(Places(5)).items():
        assert part.equal(vars(places_of_pairs(5))[name])


def test_a_constant_is_a_tensor_on_a_cpu_only() -> None:
    here = constant(0.5, torch.ones(3))
    assert isinstance(here, Tensor)
    assert here.ndim == 0
    assert constant(0.5, torch.ones(3, device="meta")) == 0.5


def test_deterministic_algorithms_have_all_they_need() -> None:
    points, labels = torch.randn(8, 3), torch.arange(8) % 2
    torch.use_deterministic_algorithms(True)
    try:
        for name in ("contrastive", "triplet"):
            value_and_gradient(lambda leaf, name=name: losses.create(name)(leaf, labels), points)  # type: ignore[misc]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("margin", [0.2, "soft"])
@pytest.mark.parametrize("beyond", [1e3, 1e4, 1e6])
def test_one_point_far_off_takes_no_digits_from_the_others(margin: float | str, beyond: float) -> None:
    points, labels = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 4
    points[0] = beyond
    loss = losses.create("triplet", margin=margin)
    value, gradient = value_and_gradient(lambda leaf: loss(leaf, labels), points)
    expected = value_and_gradient(lambda leaf: loss(leaf, labels), points.double())
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "cosine_embedding"])
def test_no_constant_remembers_tensors_without_values(name: str) -> None:
    as_tensor.cache_clear()
    given = torch.randn(3, 6, 5)
    output = losses.Triplets(*given) if name == "triplet" else losses.Pairs(*given[:2])
    target = None if name == "triplet" else torch.arange(6) % 2
    loss = losses.create(name)
    loss(type(output)(*(part.double() for part in output)), target)  # the first batch is looked at
    with FakeTensorMode() as mode:
        made = type(output)(*(mode.from_tensor(part).requires_grad_() for part in output))
        loss(made, None if target is None else mode.from_tensor(target)).backward()
    later = type(output)(*(part.clone().requires_grad_() for part in output))
    value = losses.create(name)(later, target)
    assert type(value) is Tensor
    value.backward()


@pytest.mark.parametrize("name", ["circle", "contrastive", "supervised_contrastive", "triplet"])
def test_a_tensor_without_values_gives_none_outside_its_mode_too(name: str) -> None:
    loss, points, labels = losses.create(name), torch.randn(8, 4), torch.arange(8) % 2
    loss(points, labels)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake, fake_labels = mode.from_tensor(points).requires_grad_(), mode.from_tensor(labels)
    assert type(loss(fake, fake_labels)) is type(fake)


LABELLED = ("triplet", "contrastive", "circle", "supervised_contrastive", "multi_similarity", "info_nce")
OF_NUMBERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("log_cosh", {}),
    ("quantile", {}),
    ("kl_divergence", {"target_form": "logits"}),
    ("js_divergence", {"target_form": "logits"}),
)


@pytest.mark.parametrize(("name", "parameters"), [*((name, {}) for name in LABELLED), *OF_NUMBERS])
@pytest.mark.parametrize("weighted", [False, True])
def test_results_lie_with_the_batch_whatever_the_default_device(
    name: str, parameters: dict[str, str], weighted: bool
) -> None:
    output = torch.randn(16, 8).requires_grad_()
    target = torch.arange(16) % 4 if name in LABELLED else torch.zeros(16, 8)
    weight = torch.ones(16) if weighted else None
    with torch.device("meta"):
        value = losses.create(name, **parameters)(output, target, weight=weight)
        value.backward()
    assert value.device == output.device
    assert output.grad is not None


def test_divergences_of_equal_and_nearly_equal_distributions_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(64, 100, generator=generator)
    loss = losses.create("kl_divergence", target_form="logits")
    assert abs(loss(logits.clone().requires_grad_(), logits).item()) < 1e-8
    near = logits + 0.01 * torch.randn(64, 100, generator=generator)
    expected = loss(logits.double(), near.double()).item()
    assert abs(loss(logits.clone().requires_grad_(), near).item() - expected) < 3e-7
