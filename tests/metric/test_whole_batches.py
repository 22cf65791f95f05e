"""Whole batches at random, against pytorch-metric-learning or a loop over triplets; and batches that make no sense."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml
from torch import Tensor

import losses
from losses import InputError, Pairs

BATCHES = 200


class FromDifferences(distances.LpDistance):
    """Distances of points that coincide are exactly 0: torch.cdist uses a matrix product above 25 rows, which loses
    them."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor | None) -> Tensor:
        return torch.cdist(
            query_emb, query_emb if ref_emb is None else ref_emb, compute_mode="donot_use_mm_for_euclid_dist"
        )


EUCLIDEAN = FromDifferences(normalize_embeddings=False)


def batches(largest: int, *, small_classes: bool = False) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Draw embeddings and labels of all sizes and balances; every fourth batch holds points that coincide."""
    random = torch.Generator().manual_seed(0)
    for batch in range(BATCHES):
        size = 1 + round((largest - 1) * float(torch.rand((), generator=random)) ** 2) if batch else largest
        embeddings = torch.randn(size, 5, generator=random, dtype=torch.float64)
        classes = size // 3 + 1 if small_classes else int(torch.randint(1, 8, (), generator=random))
        labels = [
            torch.arange(size) % classes,
            (torch.rand(size, generator=random) ** 2 * classes).long(),  # imbalanced
            torch.arange(size).clamp(max=max(0, size - 4)),  # singletons, and one class of four
        ][batch % 3][torch.randperm(size, generator=random)]
        has_duplicates = batch % 4 == 0 and size > 5
        if has_duplicates:
            first, *others = torch.randperm(size, generator=random)[:4].tolist()
            embeddings[others] = embeddings[first].clone()
        yield embeddings, labels, has_duplicates


def backward(loss: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().requires_grad_()
    value = torch.as_tensor(loss(leaf, labels), dtype=torch.float64)
    if not value.requires_grad:
        return value, torch.zeros_like(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, materialize_grads=True, allow_unused=True)[0]


def assert_equal(ours: Any, theirs: Any, largest: int, *, ties: bool = False, **options: Any) -> None:
    """Compare value and gradient on all batches; the gradient not where duplicates leave open which point is chosen."""
    counted = 0
    for embeddings, labels, has_duplicates in batches(largest, **options):
        value, gradient = backward(ours, embeddings, labels)
        expected, of_other = backward(theirs, embeddings, labels)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
        assert gradient.isfinite().all()
        if not (ties and has_duplicates):
            torch.testing.assert_close(gradient, of_other, rtol=1e-10, atol=1e-10)
            counted += bool(gradient.any())
    assert counted > BATCHES / 4


@pytest.mark.parametrize("average", ["active", "all"])
def test_two_hundred_random_batches_of_all_triplets_equal_pytorch_metric_learning(average: str) -> None:
    reducer = reducers.MeanReducer() if average == "all" else reducers.AvgNonZeroReducer()
    theirs = pml.TripletMarginLoss(margin=0.5, distance=EUCLIDEAN, reducer=reducer)
    assert_equal(losses.create("triplet", margin=0.5, average=average), theirs, 120)


def test_two_hundred_random_batches_of_pairs_equal_pytorch_metric_learning() -> None:
    ours = losses.create("contrastive", margin=2.0, positive_margin=0.3, power=1, average="balanced")
    assert_equal(ours, pml.ContrastiveLoss(pos_margin=0.3, neg_margin=2.0, distance=EUCLIDEAN), 120)


def test_two_hundred_random_batches_of_the_circle_equal_pytorch_metric_learning() -> None:
    # their softplus is linear above 20, which is off by 2e-9: a scale at which no anchor gets there
    assert_equal(losses.create("circle", margin=0.25, scale=2.0), pml.CircleLoss(m=0.25, gamma=2), 120)


def test_two_hundred_random_batches_of_supervised_contrast_equal_pytorch_metric_learning() -> None:
    theirs, ours = pml.SupConLoss(temperature=0.3), losses.create("supervised_contrastive", temperature=0.3)

    def where_defined(embeddings: Tensor, labels: Tensor) -> Tensor:
        # theirs is 0 where the whole batch is of one class
        return ours(embeddings, labels) if len(labels.unique()) > 1 else embeddings.sum() * 0

    assert_equal(where_defined, theirs, 120)


def test_two_hundred_random_batches_of_info_nce_equal_pytorch_metric_learning() -> None:
    assert_equal(losses.create("info_nce", temperature=0.3), pml.NTXentLoss(temperature=0.3), 120, small_classes=True)


# --- against loops over triplets -------------------------------------------------------------------------------------


def looped(mining: str, margin: float | str, average: str, swap: bool) -> Any:
    """Return the mean over triplets, anchor by anchor and positive by positive."""

    def mean(embeddings: Tensor, labels: Tensor) -> Tensor:
        squared = (embeddings.unsqueeze(1) - embeddings).square().sum(2)
        apart = torch.where(squared > 0, squared.masked_fill(squared == 0, 1).sqrt(), 0.0)
        items = []
        for anchor, name in enumerate(labels.tolist()):
            negatives = torch.nonzero(labels != name)[:, 0]
            positives = [place for place in torch.nonzero(labels == name)[:, 0].tolist() if place != anchor]
            if not positives or not len(negatives):
                continue
            far = apart[anchor, negatives].expand(len(positives), -1)
            if mining == "semi_hard":
                near = apart[anchor, positives].detach().tolist()
                order = sorted(range(len(negatives)), key=far[0].tolist().__getitem__)
                ranked = far[0][order].tolist()
                chosen = [
                    next(
                        (place for place, distance in zip(order, ranked, strict=True) if distance > own * (1 + 1e-13)),
                        order[-1],
                    )
                    for own in near
                ]
                far = far[0][chosen].unsqueeze(1)
                if swap:
                    far = torch.minimum(far, apart[positives, negatives[chosen]].unsqueeze(1))
            elif swap:
                far = torch.minimum(far, apart[positives][:, negatives])
            difference = apart[anchor, positives].unsqueeze(1) - far
            costs = (
                torch.logaddexp(difference, torch.zeros_like(difference))
                if margin == "soft"
                else (difference + margin).clamp(min=0)
            )
            items.append(costs.flatten())
        every = torch.cat(items) if items else embeddings.new_zeros(0)
        count = int((every > 0).sum()) if average == "active" else len(every)
        return every.sum() / max(count, 1)

    return mean


@pytest.mark.parametrize(
    ("mining", "margin", "average", "swap"),
    [
        ("semi_hard", 0.5, "active", False),
        ("semi_hard", "soft", "all", False),
        ("semi_hard", 0.5, "all", True),
        ("all", 0.5, "active", True),
        ("all", 0.5, "all", True),
        ("all", "soft", "active", True),
        ("all", "soft", "active", False),
    ],
)
def test_two_hundred_random_batches_equal_a_loop_over_triplets(
    mining: str, margin: Any, average: str, swap: bool
) -> None:
    ours = losses.create("triplet", mining=mining, margin=margin, average=average, swap=swap)
    # a swap is free to choose between the distances of duplicates, and mining between duplicates
    assert_equal(ours, looped(mining, margin, average, swap), 50, ties=mining == "semi_hard" or swap)


# --- batches that make no sense --------------------------------------------------------------------------------------

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
    ("circle", {}),
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


def pointing(*columns: Any, dtype: torch.dtype = torch.long) -> dict[str, Any]:
    return {"indices": tuple(torch.tensor(column, dtype=dtype) for column in columns)}


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
