"""Labelled batches where no CPU computes: few launches, no value that is read, the numbers of float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.ops.dense.matrix import DenseMatrix, is_small
from losses.ops.elementwise.linear_rows import has_chunks
from losses.ops.tiles.sizes import block_sizes, sizes
from tests.accelerator.pretended import accelerator, launches
from tests.largest_tensor import Largest

KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "triplet": ({}, 42),
    "triplet, swap": ({"swap": True}, 48),
    "triplet, soft": ({"margin": "soft"}, 44),
    "triplet, all": ({"average": "all"}, 45),
    "triplet, hard": ({"mining": "hard"}, 45),
    "triplet, hard, swap": ({"mining": "hard", "swap": True}, 52),
    "triplet, hard, soft, all": ({"mining": "hard", "margin": "soft", "average": "all"}, 46),
    "triplet, cosine": ({"distance": "cosine"}, 36),
    "triplet, squared_euclidean": ({"distance": "squared_euclidean"}, 39),
    "contrastive": ({}, 37),
    "contrastive, active": ({"average": "active", "power": 1}, 40),
    "contrastive, balanced": ({"average": "balanced"}, 53),
    "circle": ({}, 54),
    "supervised_contrastive": ({}, 37),
    "multi_similarity": ({}, 46),
    "multi_similarity, mined": ({"mining_epsilon": 0.1}, 57),
    "info_nce": ({}, 37),
    "cosine_embedding": ({}, 29),
}
"""Parameters of losses, and the most that a step of 64 may launch."""
SMALL = ((1, 1), (2, 1), (2, 2), (7, 3), (40, 4))
"""Samples, and how many a class has."""


def batch(size: int, per_class: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    embeddings = torch.nn.functional.normalize(torch.randn(size, 32, generator=generator), dim=1)
    return embeddings, torch.arange(size) // per_class


def created(kind: str) -> losses.Loss:
    return losses.create(kind.partition(",")[0], **KINDS[kind][0])


def outcome(loss: losses.Loss, embeddings: Tensor, *given: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, *given, **named)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value, gradient


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_float64(kind: str) -> None:
    loss = created(kind)
    for size, per_class in SMALL:
        embeddings, labels = batch(size, per_class)
        near = embeddings.clone()
        near[:2] = near[:1]  # equal points, and beside them one that is nearly equal
        near[2:3] = near[:1] + 1e-4 * near[-1:]
        for points in (embeddings, near):
            for weight in (None, torch.linspace(0, 2, size)):
                expected = outcome(loss, points.double(), labels, weight=weight)
                usual = outcome(loss, points, labels, weight=weight)
                for rounded in (0, 1 << 20):
                    with accelerator(), block_sizes(rounded_on_accelerator=rounded):
                        got = outcome(loss, points, labels, weight=weight)
                    assert got[1].dtype is torch.float32
                    torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-5, atol=1e-6)
                    scale = float(expected[1].abs().max())
                    allowed = max(1e-4 * scale, 3 * float((usual[1] - expected[1]).abs().max()), 1e-7)
                    assert float((got[1] - expected[1]).abs().max()) <= allowed


def test_the_sizes_that_the_page_tells_are_those_at_which_the_way_changes() -> None:
    def points(number: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.arange(number, dtype=dtype).unsqueeze(1)

    with accelerator():
        assert is_small(points(4096), points(4096), "euclidean")
        assert is_small(points(256), points(65536), "similarity")
        assert not is_small(points(4096), points(4097), "similarity")
        assert not is_small(points(8, torch.float64), points(8, torch.float64), "euclidean")
        for number, dtype in ((1024, torch.float64), (1025, torch.float32)):
            assert DenseMatrix(points(number), None, "euclidean").values.dtype is dtype
        for classes, in_chunks in ((4096, True), (4095, False)):
            linear = losses.LinearLogits(points(4096), points(classes), None)
            assert has_chunks(linear) is in_chunks
    assert sizes().cube_on_accelerator == 128**3


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("triplet")])
def test_triplets_of_more_than_one_piece_are_those_of_float64(kind: str, margin: float) -> None:
    parameters = KINDS[kind][0]
    loss = losses.create("triplet", **{"margin": margin, **parameters})
    for size, per_class in (*SMALL, (40, 1), (40, 20), (40, 40)):
        points, labels = batch(size, per_class)
        points = points.clone()
        points[2:3] = points[:1]  # equal points: with a margin of 0 their triplets cost nothing, and are not active
        others = points.flip(0)[:-1] if size > 2 else points
        for weight in (None, torch.linspace(0, 2, size)):
            for reference in (None, None if "swap" in parameters else (others, labels[: len(others)])):
                named: dict[str, Any] = {} if reference is None else {"reference": reference}
                doubled = {} if reference is None else {"reference": (others.double(), labels[: len(others)])}
                expected = outcome(loss, points.double(), labels, weight=weight, **doubled)
                for pieces in (1, 3, 1000):
                    sorted_, cube = pieces * len(others), pieces * len(others) ** 2
                    small = {"sorted_on_accelerator": sorted_, "temporary_on_accelerator": cube}
                    small["rounded_on_accelerator"] = 0 if pieces == 3 else 1 << 20
                    with accelerator(), block_sizes(cube_on_accelerator=0, **small):
                        got = outcome(loss, points, labels, weight=weight, **named)
                    torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-5, atol=1e-6)
                    scale = max(1e-3, float(expected[1].abs().max()))
                    assert float((got[1] - expected[1]).abs().max()) <= 1e-4 * scale


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("triplet", "contrastive"))])
def test_a_point_far_beyond_all_others_leaves_value_and_gradient_without_nan(kind: str) -> None:
    parameters = KINDS[kind][0]
    for distance in ("euclidean", "squared_euclidean"):
        loss = losses.create(kind.partition(",")[0], **{**parameters, "distance": distance})
        points, labels = batch(40, 4)
        alone = torch.cat([points, 1e25 * points[:1]]), torch.cat([labels, labels.new_tensor([99])])
        for rounded, cube in ((0, 0), (0, 1 << 21), (1 << 20, 0)):
            small = {"rounded_on_accelerator": rounded, "cube_on_accelerator": cube}
            with accelerator(), block_sizes(**small, temporary_on_accelerator=1 << 14):
                value, gradient = outcome(loss, *alone)
            assert value.isfinite(), (distance, rounded, cube)
            assert gradient.isfinite().all(), (distance, rounded, cube)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_too_give_values_and_gradients_of_float64(kind: str) -> None:
    loss, (embeddings, labels) = created(kind), batch(40, 4)
    labels = labels.where(labels < 7, 3)  # classes of four, and a large one
    for weight in (None, torch.linspace(0, 2, 40)):
        expected = outcome(loss, embeddings.double(), labels, weight=weight)
        with accelerator(), block_sizes(dense_on_accelerator=0, elements_on_accelerator=512, rows_on_accelerator=8):
            got = outcome(loss, embeddings, labels, weight=weight)
        torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(got[1].double(), expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_one_piece_no_matrix_of_all_pairs_is_made_but_for_soft_and_swapped_triplets(kind: str) -> None:
    loss, (embeddings, labels) = created(kind), batch(384, 4)
    small = {f"{what}_on_accelerator": 0 for what in ("dense", "cube")} | {"temporary_on_accelerator": 1 << 18}
    with accelerator(), block_sizes(**small, elements_on_accelerator=1 << 10, rows_on_accelerator=4, one_block=0):
        outcome(loss, embeddings, labels)
        with Largest() as largest:
            outcome(loss, embeddings, labels)
    assert (largest.elements < 384**2 / 4) == (kind not in ("triplet, soft", "triplet, swap"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_launches_few_operations(kind: str) -> None:
    loss, (embeddings, labels) = created(kind), batch(64, 4)
    assert launches(lambda: outcome(loss, embeddings, labels)) <= KINDS[kind][1]


@pytest.mark.parametrize("kind", ["triplet", "circle", "contrastive", "triplet, hard"])
def test_second_derivatives_are_those_of_the_definition(kind: str) -> None:
    loss, (embeddings, labels) = created(kind), batch(8, 2)

    def product(points: Tensor) -> Tensor:
        leaf = points.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, labels), leaf, create_graph=True)
        (second,) = torch.autograd.grad((gradient * gradient.detach().flip(0)).sum(), leaf)
        return second

    expected = product(embeddings.double())
    with accelerator():
        torch.testing.assert_close(product(embeddings).double(), expected, rtol=1e-3, atol=1e-4)


def test_a_reference_is_compared_with_in_one_piece_too() -> None:
    (anchors, labels), (others, other_labels) = batch(12, 3), batch(20, 4)
    for kind in ("triplet", "contrastive", "supervised_contrastive", "multi_similarity", "info_nce", "circle"):
        loss, reference = created(kind), (others, other_labels)
        expected = outcome(loss, anchors.double(), labels, reference=(others.double(), other_labels))
        with accelerator():
            got = outcome(loss, anchors, labels, reference=reference)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_near(kind: str, dtype: torch.dtype) -> None:
    loss, (embeddings, labels) = created(kind), batch(24, 4)
    expected, _ = outcome(loss, embeddings.to(dtype).double(), labels)
    with accelerator():
        value, gradient = outcome(loss, embeddings.to(dtype), labels)
    assert gradient.dtype is dtype
    assert gradient.isfinite().all()
    torch.testing.assert_close(value.double(), expected, rtol=2e-2, atol=1e-3)


TUPLES = {
    "triplet": 70,
    "triplet, swap": 88,
    "triplet, soft": 71,
    "contrastive": 52,
    "contrastive, balanced": 59,
    "circle": 110,
    "supervised_contrastive": 99,
    "multi_similarity": 87,
    "info_nce": 68,
    "cosine_embedding": 46,
}
"""Most operations of a step with a miner's tuple of four."""
LISTED = tuple(torch.tensor(part) for part in ([0, 1, 1, 5, 7], [1, 2, 2, 4, 6], [4, 5, 9, 0], [0, 1, 1, 7]))
"""Positive pairs, of which one is there twice, and negative pairs."""


def tuples() -> tuple[tuple[Tensor, ...], ...]:
    """Return a tuple of triplets, one of pairs, and one with no negative."""
    anchor, positive, negative, negative_anchor = LISTED
    nothing = negative[:0]
    return (
        (anchor[:4], positive[:4], negative),
        (anchor, positive, negative_anchor, negative),
        (anchor, positive, nothing, nothing),
    )


@pytest.mark.parametrize("kind", TUPLES)
def test_what_indices_say_is_looked_at_once_and_summed(kind: str) -> None:
    loss, (embeddings, labels), (others, _) = created(kind), batch(12, 3), batch(13, 3)
    points = embeddings.clone()
    points[1:2] = points[:1]
    for indices in tuples():
        for weight in (None, torch.linspace(0, 2, 12)):
            for reference in (None, (others, torch.arange(13) // 3)):
                expected = outcome(
                    *(loss, points.double(), labels, indices),
                    weight=weight,
                    reference=None if reference is None else (reference[0].double(), reference[1]),
                )
                with accelerator():
                    got = outcome(loss, points, labels, indices, weight=weight, reference=reference)
                for one, other in zip(got, expected, strict=True):
                    torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", TUPLES)
def test_indices_out_of_range_are_named_with_their_ends(kind: str) -> None:
    loss, (embeddings, labels), (others, _) = created(kind), batch(12, 3), batch(13, 3)
    three = tuples()[0]
    for wrong, reference, message in (
        (torch.tensor([4, 12, 9, 0]), None, "indices: negative runs from 0 to 12, the batch it points into holds 12"),
        (torch.tensor([4, -1, 9, 0]), None, "indices: negative runs from -1 to 9, the batch"),
        (torch.tensor([4, 13, 9, 0]), (others, torch.arange(13)), "negative runs from 0 to 13, .* holds 13"),
    ):
        with accelerator(), pytest.raises(losses.InputError, match=message):
            loss(embeddings, labels, (*three[:2], wrong), reference=reference)
    with accelerator(), pytest.raises(losses.InputError, match=r"indices: anchor runs from 0 to 12, .* holds 12"):
        loss(embeddings, labels, (torch.tensor([0, 12, 1, 5]), *three[1:]), reference=(others, torch.arange(13)))


@pytest.mark.parametrize("kind", TUPLES)
def test_a_step_with_a_tuple_launches_few_operations(kind: str) -> None:
    loss, (embeddings, labels) = created(kind), batch(64, 4)
    anchor, positive = ((labels.unsqueeze(1) == labels) & ~torch.eye(64, dtype=torch.bool)).nonzero().unbind(1)
    negative_anchor, negative = (labels.unsqueeze(1) != labels).nonzero().unbind(1)
    indices = anchor, positive, negative_anchor, negative
    assert launches(lambda: outcome(loss, embeddings, labels, indices)) <= TUPLES[kind]
