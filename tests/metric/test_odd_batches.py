"""Whole batches that are unusual or make no sense: a finite value and gradient, or a refusal."""

import itertools
from typing import Any

import pytest
import torch

import losses
from losses import InputError, Pairs
from tests.drawing import pointing

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("triplet", {}),
    ("triplet", {"distance": "cosine"}),
    ("triplet", {"distance": "squared_euclidean", "average": "all"}),
    ("triplet", {"margin": "soft"}),
    ("triplet", {"margin": 0.0}),
    ("triplet", {"mining": "hard"}),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"swap": True}),
    ("triplet", {"swap": True, "margin": "soft", "distance": "cosine"}),
    ("contrastive", {}),
    ("contrastive", {"power": 1, "average": "balanced"}),
    ("contrastive", {"distance": "cosine", "average": "active"}),
    ("contrastive", {"distance": "squared_euclidean"}),
    ("cosine_embedding", {"margin": 0.3}),
    ("circle", {}),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1}),
    ("supervised_contrastive", {}),
    ("info_nce", {}),
]
each_loss = pytest.mark.parametrize(
    ("name", "parameters"), LOSSES, ids=lambda value: value if isinstance(value, str) else str(value)
)
POINTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
HUGE = torch.tensor([0, 0, 2**62, 2**62, 2**53 + 1, 2**53 + 1])  # where float64, float32 and int32 see other classes
NOTHING = torch.zeros(0, dtype=torch.long)


ODD: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "no positive pair": (POINTS, torch.arange(6), {}),
    "one class": (POINTS, torch.zeros(6, dtype=torch.long), {}),
    "one pair": (POINTS[:2], torch.zeros(2, dtype=torch.long), {}),
    "two points apart": (POINTS[:2], torch.arange(2), {}),
    "all duplicates": (torch.ones(6, 3), LABELS, {}),
    "all duplicates of one class": (torch.ones(6, 3), LABELS * 0, {}),
    "all zero": (torch.zeros(6, 3), LABELS, {}),
    "nothing": (POINTS[:0], LABELS[:0], {}),
    "one": (POINTS[:1], LABELS[:1], {}),
    "no dimensions": (POINTS[:, :0], LABELS, {}),
    "nothing of no dimensions": (POINTS[:0, :0], LABELS[:0], {}),
    "one dimension": (POINTS[:, :1], LABELS, {}),
    **{
        f"labels of {dtype}": (POINTS, LABELS.to(dtype), {})
        for dtype in (
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.uint8,
            torch.uint16,
            torch.uint32,
            torch.uint64,
            torch.bool,
        )
    },
    "labels of float32": (POINTS, LABELS.float(), {}),
    "labels of complex64": (POINTS, LABELS.to(torch.complex64), {}),
    "negative labels": (POINTS, LABELS - 100, {}),
    "huge labels": (POINTS, HUGE, {}),
    "extreme labels": (POINTS, torch.tensor([2**63 - 1, 2**63 - 1, -(2**63), -(2**63), 0, 0]), {}),
    "unsigned labels beyond int64": (POINTS, torch.tensor([2**63 + 5, 2**63 + 5, 5, 5, 1, 1], dtype=torch.uint64), {}),
    "labels of shape (6, 1)": (POINTS, LABELS.unsqueeze(1), {}),
    "a label": (POINTS, torch.tensor(1), {}),
    "labels on meta": (POINTS, LABELS.to("meta"), {}),
    "embeddings on meta": (POINTS.to("meta"), LABELS, {}),
    "both on meta": (POINTS.to("meta"), LABELS.to("meta"), {}),
    "sparse embeddings": (POINTS.to_sparse(), LABELS, {}),
    "complex embeddings": (POINTS.to(torch.complex64), LABELS, {}),
    "infinite embeddings": (POINTS * torch.inf, LABELS, {}),
    "largest float32": (torch.full((6, 3), torch.finfo(torch.float32).max), LABELS, {}),
    "tiny": (POINTS * 1e-30, LABELS, {}),
    "bfloat16": (POINTS.bfloat16(), LABELS, {}),
    "half": (POINTS.half() * 10, LABELS, {}),
    "labels as a list": (POINTS, LABELS.tolist(), {}),
    "an empty reference": (POINTS, LABELS, {"reference": (OTHERS[:0], NOTHING)}),
    "a reference for nothing": (POINTS[:0], LABELS[:0], {"reference": (OTHERS, torch.arange(4) % 2)}),
    "a reference of one class": (POINTS, LABELS, {"reference": (OTHERS, torch.zeros(4, dtype=torch.long))}),
    "a reference of other classes": (POINTS, LABELS, {"reference": (OTHERS, torch.arange(4) + 7)}),
    "a reference equal to the batch": (POINTS, LABELS, {"reference": (POINTS, LABELS)}),
    "a reference of float64": (POINTS, LABELS, {"reference": (OTHERS.double(), torch.arange(4) % 2)}),
    "a reference on meta": (POINTS, LABELS, {"reference": (OTHERS.to("meta"), torch.arange(4) % 2)}),
    "labels of a reference on meta": (
        POINTS,
        LABELS,
        {"reference": (OTHERS, torch.zeros(4, dtype=torch.long, device="meta"))},
    ),
    "labels of a reference as bool": (POINTS, LABELS, {"reference": (OTHERS, torch.arange(4) % 2 == 0)}),
    "a reference without labels": (POINTS, LABELS, {"reference": (OTHERS, None)}),
    "no triplets": (POINTS, LABELS, {"indices": (NOTHING,) * 3}),
    "no pairs": (POINTS, LABELS, {"indices": (NOTHING,) * 4}),
    "only positive pairs": (POINTS, LABELS, {"indices": (torch.tensor([0]), torch.tensor([1]), NOTHING, NOTHING)}),
    "only negative pairs": (POINTS, LABELS, {"indices": (NOTHING, NOTHING, torch.tensor([0]), torch.tensor([2]))}),
    "an empty tuple": (POINTS, LABELS, {"indices": ()}),
    "two columns": (POINTS, LABELS, pointing([0], [1])),
    "five columns": (POINTS, LABELS, pointing([0], [1], [2], [3], [4])),
    "beyond the batch": (POINTS, LABELS, pointing([0], [1], [6])),
    "beyond int32": (POINTS, LABELS, pointing([0], [1], [2**40])),
    "before the batch": (POINTS, LABELS, pointing([0], [-1], [2])),
    "indices of float": (POINTS, LABELS, pointing([0], [1], [2], dtype=torch.float32)),
    "indices of bool": (POINTS, LABELS, pointing([0], [1], [1], dtype=torch.bool)),
    "indices of int32": (POINTS, LABELS, pointing([0], [1], [2], dtype=torch.int32)),
    "indices of uint8": (POINTS, LABELS, pointing([0], [1], [2], dtype=torch.uint8)),
    "indices of uint64": (POINTS, LABELS, pointing([0], [1], [2], dtype=torch.uint64)),
    "indices on meta": (
        POINTS,
        LABELS,
        {"indices": tuple(torch.zeros(1, dtype=torch.long, device="meta") for _ in range(3))},
    ),
    "indices of two dimensions": (POINTS, LABELS, pointing([[0]], [[1]], [[2]])),
    "scalar indices": (POINTS, LABELS, pointing(0, 1, 2)),
    "columns of two lengths": (POINTS, LABELS, pointing([0, 1], [1], [2])),
    "indices against the labels": (POINTS, LABELS, pointing([0, 1], [2, 3], [1, 0])),
    "an anchor as its own positive": (POINTS, LABELS, pointing([0, 0], [0, 0], [0, 2])),
    "indices for nothing": (POINTS[:0], LABELS[:0], pointing([0], [0], [0])),
    "indices as None each": (POINTS, LABELS, {"indices": (None, None, None)}),
    "no weight at all": (POINTS, LABELS, {"weight": torch.zeros(6)}),
    "a negative weight": (POINTS, LABELS, {"weight": -torch.ones(6)}),
    "a weight of NaN": (POINTS, LABELS, {"weight": torch.full((6,), torch.nan)}),
    "an infinite weight": (POINTS, LABELS, {"weight": torch.full((6,), torch.inf)}),
    "a weight too many": (POINTS, LABELS, {"weight": torch.ones(7)}),
    "a weight on meta": (POINTS, LABELS, {"weight": torch.ones(6, device="meta")}),
    "a weight for NaN": (
        POINTS.masked_fill(torch.arange(6).unsqueeze(1) == 0, torch.nan),
        LABELS,
        {"weight": (LABELS > 0).float()},
    ),
    "a tiny weight": (POINTS, LABELS, {"weight": torch.full((6,), 1e-42)}),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_batch_has_a_finite_value_and_gradient_or_is_refused(kind: str) -> None:
    embeddings, labels, options = ODD[kind]
    for (name, parameters), reduction in itertools.product(LOSSES, ("mean", "sum", "none")):
        if embeddings.is_meta and reduction == "none":
            continue  # how many items there are depends on the labels
        leaf, which = embeddings.detach().requires_grad_(), f"{name} {parameters} {reduction}"
        try:
            value = losses.create(name, **parameters, reduction=reduction)(leaf, labels, **options)
        except InputError as error:
            assert str(error).strip(), which
            continue
        except Exception as error:
            raise AssertionError(which) from error
        assert value.ndim == (reduction == "none"), which
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert gradient.shape == leaf.shape, which
        if not leaf.is_meta:
            assert value.isfinite().all(), which
            assert gradient.isfinite().all(), which


NOT_REFUSED = {
    "labels of torch.int8",
    "labels of torch.uint8",
    "labels of torch.bool",
    "huge labels",
    "nothing",
    "one",
    "no dimensions",
}


@pytest.mark.parametrize("kind", sorted(NOT_REFUSED))
@each_loss
def test_what_is_only_unusual_is_not_refused(name: str, parameters: dict[str, Any], kind: str) -> None:
    embeddings, labels, options = ODD[kind]
    assert losses.create(name, **parameters)(embeddings, labels, **options).isfinite()


REFUSED = {
    "beyond the batch",
    "before the batch",
    "indices of float",
    "an empty tuple",
    "columns of two lengths",
    "labels of float32",
    "a weight too many",
    "a negative weight",
    "a weight of NaN",
    "indices for nothing",
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
@each_loss
def test_what_makes_no_sense_is_refused(name: str, parameters: dict[str, Any], kind: str) -> None:
    embeddings, labels, options = ODD[kind]
    with pytest.raises(InputError):
        losses.create(name, **parameters)(embeddings, labels, **options)


@each_loss
@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64], ids=str
)
def test_the_dtype_of_labels_does_not_matter(name: str, parameters: dict[str, Any], dtype: torch.dtype) -> None:
    loss = losses.create(name, **parameters)
    assert torch.equal(loss(POINTS, LABELS.to(dtype)), loss(POINTS, LABELS))


@each_loss
def test_the_size_of_labels_does_not_matter(name: str, parameters: dict[str, Any]) -> None:
    loss = losses.create(name, **parameters)
    torch.testing.assert_close(loss(POINTS, HUGE), loss(POINTS, LABELS))
    near = torch.tensor([2**53, 2**53, 2**53 + 1, 2**53 + 1, 2**53 + 2, 2**53 + 2])
    assert torch.equal(loss(POINTS, near), loss(POINTS, LABELS))
    expected = loss(POINTS, LABELS, reference=(OTHERS, LABELS[:4]))
    assert torch.equal(loss(POINTS, near, reference=(OTHERS, near[:4])), expected)
    torch.testing.assert_close(loss(POINTS, HUGE, reference=(OTHERS, HUGE[:4])), expected)


@pytest.mark.parametrize("negatives", ["second", "both"])
@pytest.mark.parametrize("direction", ["both", "forward"])
@pytest.mark.parametrize(
    "pairs",
    [
        Pairs(POINTS[:0], POINTS[:0]),
        Pairs(POINTS[:1], POINTS[1:2]),
        Pairs(POINTS[:, :0], POINTS[:, :0]),
        Pairs(torch.ones(4, 3), torch.ones(4, 3)),
        Pairs(torch.zeros(4, 3), torch.ones(4, 3)),
        Pairs(POINTS, POINTS),
        Pairs(POINTS * 1e-37, POINTS * 1e37),
        Pairs(POINTS, POINTS[:5]),
        Pairs(POINTS, POINTS[:, :2]),
        Pairs(POINTS, POINTS.to("meta")),
        Pairs(POINTS, POINTS.double()),
        Pairs(POINTS, POINTS * torch.inf),
    ],
    ids=[
        "nothing",
        "one",
        "no dimensions",
        "duplicates",
        "zeros",
        "itself",
        "range",
        "lengths",
        "widths",
        "meta",
        "dtypes",
        "infinite",
    ],
)
def test_odd_matching_rows_have_a_finite_value_and_gradient_or_are_refused(
    pairs: Pairs, direction: str, negatives: str
) -> None:
    first = pairs.first.detach().requires_grad_()
    try:
        value = losses.create("info_nce", direction=direction, negatives=negatives)(Pairs(first, pairs.second))
    except InputError as error:
        assert str(error).strip()
        return
    (gradient,) = torch.autograd.grad(value, first)
    assert value.isfinite()
    assert gradient.isfinite().all()
