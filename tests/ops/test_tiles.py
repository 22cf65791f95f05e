"""The whole-batch losses in blocks against what they must equal: their plain compositions, and loops over exact
distances."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import losses
from losses import Pairs
from losses.core.reduction import Total
from losses.metric import triplet
from losses.ops import classes, soft_triplets, tiles, triplets, whole_batch

DISTANCES = ("euclidean", "squared_euclidean", "cosine")


class Case(NamedTuple):
    """A loss that works in blocks; of embeddings with labels, or of matching rows in two halves."""

    name: str
    parameters: dict[str, Any]
    of_pairs: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *("pairs" for _ in range(self.of_pairs)), *map(str, self.parameters.values())])

    @property
    def is_soft(self) -> bool:
        return (
            self.parameters.get("margin") == "soft" and self.parameters.get("mining", "all") == "all" and not self.swaps
        )

    @property
    def swaps(self) -> bool:
        return self.parameters.get("swap", False)


CASES = [
    *(
        Case("triplet", {**kind, "distance": distance, "average": average})
        for kind in (
            {"margin": 0.7},
            {"margin": "soft"},
            {"margin": 0.7, "mining": "hard"},
            {"margin": 0.7, "mining": "semi_hard"},
            {"margin": "soft", "mining": "semi_hard"},
            {"margin": 0.7, "swap": True},
            {"margin": "soft", "swap": True},
        )
        for distance in DISTANCES
        for average in ("active", "all")
    ),
    *(
        Case(
            "contrastive",
            {"power": power, "average": average, "distance": distance, "margin": 1.3, "positive_margin": 0.2},
        )
        for power in (1, 2)
        for average in ("all", "active", "balanced")
        for distance in DISTANCES
    ),
    Case("circle", {}),
    Case("circle", {"margin": 0.1, "scale": 4.0}),
    Case("supervised_contrastive", {"temperature": 0.3}),
    Case("info_nce", {"temperature": 0.3}),
    *(
        Case("info_nce", {"temperature": 0.3, "negatives": negatives, "direction": direction}, of_pairs=True)
        for negatives in ("second", "both")
        for direction in ("both", "forward")
    ),
]
ONE_OF_EACH = [
    Case("triplet", {"margin": 0.7}),
    Case("triplet", {"margin": 0.7, "distance": "cosine"}),
    Case("triplet", {"margin": "soft", "distance": "squared_euclidean"}),
    Case("triplet", {"margin": 0.7, "mining": "hard"}),
    Case("triplet", {"margin": 0.7, "mining": "semi_hard"}),
    Case("triplet", {"margin": 0.7, "swap": True}),
    Case("contrastive", {"margin": 1.3, "average": "balanced", "power": 1}),
    Case("contrastive", {"margin": 1.3, "average": "active", "distance": "cosine"}),
    Case("circle", {"margin": 0.1, "scale": 4.0}),
    Case("supervised_contrastive", {"temperature": 0.3}),
    Case("info_nce", {"temperature": 0.3}),
    Case("info_nce", {"temperature": 0.3, "negatives": "second"}, of_pairs=True),
    Case("info_nce", {"temperature": 0.3, "negatives": "both"}, of_pairs=True),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
without_torchs_own_remarks = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)


class Batch(NamedTuple):
    """Embeddings in generic position; of matching rows, the first half belongs to the second."""

    embeddings: Tensor
    labels: Tensor
    weight: Tensor | None = None
    reference: tuple[Tensor, Tensor] | None = None


def drawn(
    size: int,
    balance: str = "balanced",
    others: int | None = None,
    *,
    weighted: bool = False,
    dimension: int = 4,
    seed: int = 0,
) -> Batch:
    random = torch.Generator().manual_seed(1000 * size + seed)
    embeddings = torch.randn(size, dimension, generator=random, dtype=torch.float64)
    weight = (
        torch.rand(size, generator=random, dtype=torch.float64) * (torch.rand(size, generator=random) > 0.2)
        if weighted
        else None
    )
    reference = None
    if others is not None:
        reference = (
            torch.randn(others, dimension, generator=random, dtype=torch.float64),
            labels_of(others, balance, random),
        )
    return Batch(embeddings, labels_of(size, balance, random), weight, reference)


def labels_of(size: int, balance: str, random: torch.Generator) -> Tensor:
    if balance == "balanced":
        return torch.arange(size)[torch.randperm(size, generator=random)] % 4 - 1
    if balance == "imbalanced":
        return (torch.rand(size, generator=random) ** 3 * 6).long()
    if balance == "singletons":
        return torch.arange(size).clamp(max=max(1, size - 3))[torch.randperm(size, generator=random)]
    return torch.zeros(size, dtype=torch.long)  # one class


def total(case: Case, batch: Batch) -> Total:
    loss = losses.create(case.name, **case.parameters)
    if case.of_pairs:
        half = len(batch.embeddings) // 2
        weight = None if batch.weight is None else batch.weight[:half]
        return loss.total(Pairs(batch.embeddings[:half], batch.embeddings[half : 2 * half]), weight=weight)
    context = {} if batch.reference is None else {"reference": batch.reference}
    return loss.total(batch.embeddings, batch.labels, weight=batch.weight, **context)


def answers(case: Case, batch: Batch, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return sum, weight, and the gradients of the embeddings and of the reference, if any."""
    leaves = [batch.embeddings] + ([] if batch.reference is None else [batch.reference[0]])
    leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    weight = None if batch.weight is None else batch.weight.to(dtype)
    reference = None if batch.reference is None else (leaves[1], batch.reference[1])
    result = total(case, batch._replace(embeddings=leaves[0], weight=weight, reference=reference))
    of_each = torch.arange(1, result.sum.numel() + 1, dtype=dtype).view_as(result.sum)  # balanced parts are told apart
    gradients = torch.autograd.grad((result.sum * of_each).sum(), leaves)
    return [result.sum.detach(), torch.as_tensor(result.weight), *gradients]


@contextmanager
def plainly() -> Iterator[None]:
    """Make every loss a plain composition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_batch, "may_tile", lambda *_: False)
        patch.delattr(tiles.Tiles, "__init__")
        yield


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tiles.Tiles]:
    """Collect the tiles that are made: a test that compares two routes must see that they are two."""
    found: list[tiles.Tiles] = []
    make = tiles.Tiles.__init__

    def collect(self: tiles.Tiles, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(tiles.Tiles, "__init__", collect)
    return found


def shrink(monkeypatch: pytest.MonkeyPatch, elements: int = 150, rows: int = 3) -> None:
    """Make blocks so small that there are many of them, the last one smaller."""
    for module, name, value in (
        (tiles, "BLOCK", elements),
        (tiles, "ONE_BLOCK", 0),
        (tiles, "ROWS", rows),
        (whole_batch, "ROWS", rows),
        (triplets, "GROUP", 2),
    ):
        monkeypatch.setattr(module, name, value)


def forget_reading(monkeypatch: pytest.MonkeyPatch, *, by_loss: bool = True) -> None:
    """Make every tensor one whose values cost a synchronisation to look at, as on an accelerator."""
    for module in (tiles, classes, *((triplet,) if by_loss else ())):
        monkeypatch.setattr(module, "may_read", lambda _: False)


def assert_near(actual: list[Tensor], expected: list[Tensor], tolerance: float, rows: bool = False) -> None:
    """Check that every tensor, or every one of its rows, lies within a share of its own size."""
    assert len(actual) == len(expected)
    for mine, other in zip(actual, expected, strict=True):
        assert mine.shape == other.shape
        mine, other = mine.double(), other.double()
        error, size = ((part.norm(dim=-1) if rows and part.ndim else part.norm()) for part in (mine - other, other))
        size = size.clamp(min=size.mean() / 10)  # where what pulls at a point cancels, its rounding remains
        assert bool((error <= tolerance * size + 1e-12).all()), f"{error} of {size}"


SHAPES: list[tuple[int, str, int | None]] = [
    (0, "balanced", None),
    (1, "balanced", None),
    (2, "one", None),
    (2, "singletons", None),
    (3, "imbalanced", None),
    (7, "singletons", None),
    (10, "one", None),
    (33, "imbalanced", None),
    (64, "balanced", None),
    (0, "balanced", 3),
    (3, "balanced", 0),
    (1, "balanced", 6),
    (5, "singletons", 9),
    (40, "imbalanced", 17),
    (17, "balanced", 40),
]


def routes(case: Case) -> list[str]:
    """Return the ways through a kernel that there are."""
    if case.name == "triplet" and case.parameters["average"] == "all":
        return ["small_blocks"]  # nothing but another of the two counts
    found = ["default", "small_blocks", "accelerator"]
    if case.is_soft:
        return [*found, "polynomial", "by_positive"]
    return (
        [*found, "sorted"]
        if case.name == "triplet" and set(case.parameters) == {"margin", "distance", "average"}
        else found
    )


@pytest.mark.parametrize(("case", "route"), [(case, route) for case in CASES for route in routes(case)], ids=str)
def test_blocks_equal_the_plain_composition(
    case: Case, route: str, made: list[tiles.Tiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    if route != "default":
        shrink(monkeypatch)
    if route == "sorted":
        monkeypatch.setattr(triplets, "COMPARED_ONE_BY_ONE", 2)
    monkeypatch.setattr(soft_triplets, "WORTH", {"polynomial": 10**6, "by_positive": 0}.get(route, soft_triplets.WORTH))
    if route == "accelerator":
        forget_reading(monkeypatch, by_loss=case.swaps)
    for number, (size, balance, others) in enumerate(SHAPES):
        if case.of_pairs and others is not None:
            continue
        batch = drawn(size, balance, others, weighted=bool(number % 2) == (route != "small_blocks"))
        made.clear()
        actual = answers(case, batch)
        assert bool(made) != (case.swaps and (others is not None or route == "accelerator"))
        if made and route != "default" and size > 25:
            assert len(made[0].blocks) > 1
        with plainly():
            expected = answers(case, batch)
        assert_near(actual, expected, 1e-11)


@pytest.mark.parametrize("case", [case for case in CASES if "default" in routes(case)], ids=str)
def test_a_large_batch_in_blocks_equals_the_plain_composition(case: Case, made: list[tiles.Tiles]) -> None:
    batch = drawn(200, "imbalanced", weighted=True, dimension=7)
    actual = answers(case, batch)
    assert made[0].height == made[0].width or case.of_pairs
    with plainly():
        assert_near(actual, answers(case, batch), 1e-11)


@pytest.mark.parametrize("route", ["default", "small_blocks"])
@each_case
def test_blocks_in_single_precision_are_as_exact_as_it_is(
    case: Case, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if route == "small_blocks":
        shrink(monkeypatch)
    for size, balance, others, weighted in [
        (2, "one", None, False),
        (24, "balanced", None, True),
        (40, "imbalanced", None, False),
        (12, "balanced", 21, True),
    ]:
        if case.of_pairs and others is not None:
            continue
        batch = drawn(size, balance, others, weighted=weighted)
        rounded = batch._replace(embeddings=batch.embeddings.float().double())
        if rounded.reference is not None:
            rounded = rounded._replace(reference=(rounded.reference[0].float().double(), rounded.reference[1]))
        with plainly():
            expected = answers(case, rounded)
        assert_near(answers(case, rounded, torch.float32), expected, 1e-5)


@each_case
def test_on_an_accelerator_the_loss_itself_takes_the_same_value(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = drawn(30, "imbalanced", weighted=True)
    expected = answers(case, batch)
    forget_reading(monkeypatch)
    assert_near(answers(case, batch), expected, 1e-11)


@pytest.fixture
def empty_is_nan() -> Iterator[None]:
    """Fill memory that nobody has written to with NaN, as torch does where all has to be deterministic."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("route", ["default", "small_blocks"])
@each_case
@pytest.mark.usefixtures("empty_is_nan")
def test_no_buffer_is_read_before_it_is_written(case: Case, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.empty(3).isnan().all()
    if route == "small_blocks":
        shrink(monkeypatch)
    for size, balance, others in ((12, "imbalanced", None), (9, "singletons", 14), (3, "balanced", 0)):
        if not (case.of_pairs and others is not None):
            assert all(answer.isfinite().all() for answer in answers(case, drawn(size, balance, others, weighted=True)))


@one_of_each
def test_a_weight_may_ask_for_a_gradient(case: Case) -> None:
    batch = drawn(12, weighted=True)
    weight = (batch.weight + 0.1).requires_grad_() if batch.weight is not None else None
    assert weight is not None
    result = total(case, batch._replace(weight=weight))
    (gradient,) = torch.autograd.grad(result.sum.sum(), weight)
    assert gradient.any()
    ones = torch.eye(12, dtype=torch.float64)
    # the sum is linear in the weights
    each = torch.stack([total(case, batch._replace(weight=one)).sum.sum() for one in ones])
    assert_near([gradient], [each], 1e-11)


def test_blocks_hold_every_row_once_and_may_be_uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    points = torch.randn(22, 3, dtype=torch.float64)
    found = [
        (tile.rows.start, tile.rows.stop, tile.values.clone())
        for tile in tiles.Tiles(points, points[:20] + 9, "squared_euclidean")
    ]
    assert [(start, stop) for start, stop, _ in found] == [(0, 7), (7, 14), (14, 21), (21, 22)]
    expected = (points.unsqueeze(1) - points[:20] - 9).square().sum(2)
    torch.testing.assert_close(torch.cat([values for *_, values in found]), expected)


@pytest.mark.parametrize("asking", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if not case.of_pairs and not case.swaps], ids=str)
def test_only_a_set_that_asks_for_a_gradient_gets_one(
    case: Case, asking: tuple[bool, bool], made: list[tiles.Tiles]
) -> None:
    batch = drawn(12, others=15)
    assert batch.reference is not None
    gradients, values = [], []
    for route in (nullcontext(), plainly()):
        first, second = (
            batch.embeddings.clone().requires_grad_(asking[0]),
            batch.reference[0].clone().requires_grad_(asking[1]),
        )
        with route:
            result = total(case, batch._replace(embeddings=first, reference=(second, batch.reference[1]))).sum.sum()
        assert result.requires_grad == any(asking)
        if any(asking):
            result.backward()
        gradients.append([first.grad, second.grad])
        values.append(result.detach())
    torch.testing.assert_close(*values)
    for wanted, mine, other in zip(asking, *gradients, strict=True):
        assert (mine is not None) == (other is not None) == wanted
        if mine is not None and other is not None:
            assert_near([mine], [other], 1e-11)
    if case.parameters.get("mining") == "hard":
        return  # chosen in blocks, computed one by one
    assert made[0].differentiable == any(asking)
    if any(asking):
        assert made[0].of_first.any() == asking[0]
        assert made[0].of_second.any() == asking[1]


# --- points that nearly coincide, and points far away ----------------------------------------------------------------


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


def definition(case: Case, embeddings: Tensor, labels: Tensor) -> Tensor:
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


def of_distances(margin: float = 1.0) -> list[Case]:
    return [
        *(
            Case("triplet", {"margin": kind, "mining": mining, "distance": distance})
            for kind, mining in ((margin, "all"), ("soft", "all"), (margin, "semi_hard"), (margin, "hard"))
            for distance in DISTANCES
        ),
        *(
            Case("contrastive", {"margin": margin, "power": power, "distance": distance, "average": average})
            for power, average in ((1, "all"), (2, "active"))
            for distance in DISTANCES
        ),
    ]


def compare_with_definition(
    case: Case, embeddings: Tensor, labels: Tensor, tolerance: float, *, rows: bool = True, ties: bool = False
) -> None:
    """Compare value and gradient with the definition's; the gradient not where ties leave open who is chosen."""
    mine, exact = embeddings.detach().requires_grad_(), embeddings.detach().double().requires_grad_()
    results = total(case, Batch(mine, labels)).sum.sum(), definition(case, exact, labels)
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
def test_near_duplicates_in_single_precision_keep_value_and_direction(case: Case, apart: float, dimension: int) -> None:
    random = torch.Generator().manual_seed(1)
    embeddings = torch.randn(12, dimension, generator=random)
    # a pair within a class and a pair across two, but to semi-hard mining a negative as far as the positive, up to
    # rounding, is not farther
    for row in (0,) if case.parameters.get("mining") == "semi_hard" else (0, 4):
        embeddings[row + 1] = embeddings[row] + apart * torch.randn(dimension, generator=random)
    compare_with_definition(case, embeddings, torch.tensor([0, 0, 1, 1, 2, 0, 1, 2, 2, 0, 1, 2]), TOLERANCES[apart])


@pytest.mark.parametrize("apart", TOLERANCES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_pair_of_near_duplicates_alone_keeps_its_direction(distance: str, apart: float) -> None:
    """Here the gradient of two points is nothing but the direction of their difference."""
    random = torch.Generator().manual_seed(2)
    embeddings = torch.randn(6, 3, generator=random)
    embeddings[3:] = embeddings[:3] + apart * torch.randn(3, 3, generator=random)
    case = Case("contrastive", {"margin": 1e-30, "power": 1, "distance": distance})
    compare_with_definition(case, embeddings, torch.tensor([0, 1, 2, 0, 1, 2]), TOLERANCES[apart])


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
def test_near_duplicates_far_from_the_origin_keep_value_and_direction(distance: str) -> None:
    """The squares of coordinates around 100 leave no digits for a distance of 1e-4, unless their centre is taken
    off."""
    random = torch.Generator().manual_seed(2)
    embeddings = torch.randn(6, 3, generator=random, dtype=torch.float64) + 100
    embeddings[3:] = embeddings[:3] + 1e-4 * torch.randn(3, 3, generator=random, dtype=torch.float64)
    case = Case("contrastive", {"margin": 1e-30, "power": 1, "distance": distance})
    compare_with_definition(case, embeddings, torch.tensor([0, 1, 2, 0, 1, 2]), 1e-6)


@each_of_distances
def test_two_tight_clusters_in_single_precision_equal_exact_distances(case: Case) -> None:
    random = torch.Generator().manual_seed(3)
    centres = torch.tensor([[1.0, 0.0, 0.5, 0.0], [-1.0, 0.4, 0.0, 2.0]])
    embeddings = centres.repeat_interleave(10, 0) + 1e-4 * torch.randn(20, 4, generator=random)
    compare_with_definition(case, embeddings, torch.arange(20) // 10, 1e-5)
    # to which a negative as far as the positive, up to rounding, is not farther
    if case.parameters.get("mining") != "semi_hard":
        compare_with_definition(case, embeddings, torch.arange(20) % 2, 1e-5)


@pytest.mark.parametrize("power", [-25, 25])
@each_of_distances
def test_embeddings_of_any_magnitude_in_single_precision_equal_exact_distances(case: Case, power: int) -> None:
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
def test_a_far_outlier_leaves_the_precision_of_the_others(case: Case, factor: float) -> None:
    random = torch.Generator().manual_seed(5)
    embeddings, labels = torch.randn(20, 4, generator=random), torch.arange(20) % 3
    embeddings[7] *= factor
    labels[7] = 3  # a negative of all and an anchor of nothing: its distances are too coarse to compare
    mine, exact = embeddings.requires_grad_(), embeddings.detach().double().requires_grad_()
    results = total(case, Batch(mine, labels)).sum, definition(case, exact, labels)
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
    case: Case, dimension: int, dtype: torch.dtype
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
def test_vectors_of_zeros_lie_as_far_as_the_definition_says(case: Case) -> None:
    embeddings = torch.randn(9, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    embeddings[[0, 3, 4]] = 0
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 2, 2, 0])
    mine = embeddings.clone().requires_grad_()
    value = total(case, Batch(mine, labels)).sum
    torch.testing.assert_close(value.detach(), definition(case, embeddings, labels))
    (gradient,) = torch.autograd.grad(value, mine)
    assert gradient.isfinite().all()
    with plainly():
        plain = torch.autograd.grad(total(case, Batch(mine, labels)).sum, mine)[0]
    assert_near([gradient], [plain], 1e-11)


@pytest.mark.parametrize(
    "case", [case for case in ONE_OF_EACH if case.name in ("circle", "supervised_contrastive", "info_nce")], ids=str
)
def test_lengths_of_vectors_do_not_matter_to_angles_in_single_precision(case: Case) -> None:
    batch = drawn(12)
    batch = batch._replace(embeddings=batch.embeddings.float().double())
    with plainly():
        expected = answers(case, batch)
    for scale in (1e-25, 1e25):
        value, weight, gradient = answers(case, batch._replace(embeddings=batch.embeddings * scale), torch.float32)
        assert_near([value, weight, gradient * scale], expected, 1e-5)


# --- memory and counts -----------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Remember the most elements of any tensor that is allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self.elements = max(
                    self.elements, tensor.untyped_storage().nbytes() // tensor.element_size(), tensor.numel()
                )
        return result


def largest(case: Case, size: int) -> tuple[int, int]:
    """Return the elements of the largest tensor of forward and backward, and of all that is kept between them."""
    random, kept = torch.Generator().manual_seed(0), []
    embeddings = torch.nn.functional.normalize(torch.randn(size, 16, generator=random), dim=1).requires_grad_()
    labels = torch.arange(size) % (size // 8)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with Largest() as mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total(case, Batch(embeddings, labels)).sum.sum().backward()
    return mode.elements, sum(kept)


@pytest.mark.parametrize(
    ("case", "reads"),
    # which have to read
    [(case, reads) for case in ONE_OF_EACH for reads in (True, False) if reads or not (case.is_soft or case.swaps)],
    ids=str,
)
def test_nothing_of_all_pairs_is_allocated(case: Case, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if reads:  # under a dispatch mode, as on an accelerator, nothing is looked at
        monkeypatch.setattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
    size = 2048 if reads else 1024
    shrink(monkeypatch, 1 << 15, 8)
    block = max(tiles.BUFFERS << 15, size * (16 + 2) * 2)
    half, whole = largest(case, size // 2), largest(case, size)
    assert size**2 // 4 > block
    assert whole[0] <= 1.1 * block
    assert whole[1] <= 20 * size * (16 + 2)
    assert whole[0] <= 2.1 * half[0]
    assert whole[1] <= 2.1 * half[1]


def test_the_largest_tensor_of_a_plain_composition_is_seen() -> None:
    with plainly():
        assert largest(Case("info_nce", {}), 256)[0] >= 256**2


@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("size", [603, 2103])
def test_triplets_are_counted_exactly_beyond_single_precision_and_31_bits(size: int, average: str) -> None:
    first, second = (size + 1) // 2, size // 2
    count = first * (first - 1) * second + second * (second - 1) * first
    assert count > 2 ** (31 if size > 1000 else 24)
    assert count != int(torch.tensor(count).float())
    embeddings = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    result = losses.create("triplet", margin=1e3, average=average).total(embeddings, torch.arange(size) % 2)
    assert result.weight == count
    assert result.sum.item() == pytest.approx(1e3 * count, rel=1e-2)


@pytest.mark.parametrize("average", ["all", "active", "balanced"])
def test_pairs_are_counted_exactly_beyond_single_precision(average: str) -> None:
    size = 6003
    embeddings = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    weight = (
        losses.create("contrastive", margin=1e3, average=average).total(embeddings, torch.arange(size) // 3000).weight
    )
    same = 3000 * 2999 + 3
    assert size * (size - 1) // 2 % 2 == 1  # which is no float32
    assert torch.as_tensor(weight).tolist() == (
        [same, size * (size - 1) // 2 - same] if average == "balanced" else size * (size - 1) // 2
    )


def test_active_triplets_far_beyond_single_precision_are_counted_one_by_one() -> None:
    """Some thousands of 2.5 x 10^8 triplets cost nothing, and the count says how many."""
    size = 1000
    points, labels = (
        torch.rand(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.arange(size) % 2,
    )
    points[0], points[1], points[2] = 0.0, 50.0, 0.0
    distances = (points.unsqueeze(1) - points).abs()
    expected = 0
    for anchor, row in enumerate(distances):
        others = torch.arange(size) != anchor
        same = labels == labels[anchor]
        expected += int((row[same & others].unsqueeze(1) - row[~same] + 49.5 > 0).sum())
    assert losses.create("triplet", margin=49.5).total(points.unsqueeze(1), labels).weight == expected
    assert 2**24 < expected < size * 499 * 500


# --- derivatives of every kind ---------------------------------------------------------------------------------------


def function(case: Case, batch: Batch) -> Callable[[Tensor], Tensor]:
    """Return the mean as a function of the embeddings."""
    loss = losses.create(case.name, **case.parameters)

    def of_embeddings(embeddings: Tensor) -> Tensor:
        if case.of_pairs:
            half = len(embeddings) // 2
            return loss(Pairs(embeddings[:half], embeddings[half:]))
        return loss(embeddings, batch.labels)

    return of_embeddings


def small(size: int = 8) -> Batch:
    return drawn(size, dimension=3, seed=3)._replace(labels=torch.arange(size) % 3)


@one_of_each
def test_second_derivatives_equal_those_of_the_plain_composition(case: Case, made: list[tiles.Tiles]) -> None:
    batch = small()
    found = []
    for plain in (False, True):
        leaf = batch.embeddings.clone().requires_grad_()
        made.clear()
        if plain:
            with plainly():
                value = function(case, batch)(leaf)
        else:
            value = function(case, batch)(leaf)
            assert made
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
        found.append([value.detach(), gradient.detach(), second])
    assert_near(*found, 1e-10)
    assert found[0][2].any()


@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if case.name != "circle"], ids=str)
def test_first_and_second_derivatives_are_those_of_the_value(case: Case) -> None:
    batch = small(6)
    leaf = batch.embeddings.requires_grad_()
    assert torch.autograd.gradcheck(function(case, batch), leaf)
    assert torch.autograd.gradgradcheck(function(case, batch), leaf)


@one_of_each
def test_a_graph_that_is_kept_gives_the_same_gradient_again(case: Case) -> None:
    batch = small()
    leaf = batch.embeddings.requires_grad_()
    value = function(case, batch)(leaf)
    first, again = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    (last,) = torch.autograd.grad(3 * value, leaf)
    assert torch.equal(first, again)
    torch.testing.assert_close(last, 3 * first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, leaf)


@without_torchs_own_remarks
@one_of_each
def test_hessians_of_autograd_and_of_transforms_are_equal(case: Case) -> None:
    batch = small(6)
    of_autograd = torch.autograd.functional.hessian(function(case, batch), batch.embeddings)
    with plainly():
        plain = torch.autograd.functional.hessian(function(case, batch), batch.embeddings)
    assert_near([of_autograd], [plain], 1e-10)
    assert_near([torch.func.hessian(function(case, batch))(batch.embeddings)], [plain], 1e-10)


@without_torchs_own_remarks
@one_of_each
def test_transforms_equal_backward(case: Case) -> None:
    batch = small()
    of_embeddings, points = function(case, batch), batch.embeddings
    leaf = points.clone().requires_grad_()
    value = of_embeddings(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert_near([torch.func.grad(of_embeddings)(points)], [gradient], 1e-11)
    primal, slope = torch.func.jvp(of_embeddings, (points,), (direction,))
    assert_near([primal, slope], [value.detach(), (gradient * direction).sum()], 1e-10)
    several = torch.stack([points, points + direction / 10, points * 2])
    expected = torch.stack([of_embeddings(each) for each in several])
    assert_near([torch.func.vmap(of_embeddings)(several)], [expected], 1e-11)
    slopes = torch.stack([torch.func.grad(of_embeddings)(each) for each in several])
    assert_near([torch.func.vmap(torch.func.grad(of_embeddings))(several)], [slopes], 1e-11)


@without_torchs_own_remarks
@one_of_each
def test_forward_mode_gives_the_directional_derivative(case: Case) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(case, batch)(leaf), leaf)
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    with forward_ad.dual_level():
        value = function(case, batch)(forward_ad.make_dual(batch.embeddings, direction))
        tangent = forward_ad.unpack_dual(value).tangent
    assert tangent is not None
    assert_near([tangent], [(gradient * direction).sum()], 1e-10)


@one_of_each
def test_many_gradients_may_be_asked_for_at_once(case: Case) -> None:
    batch = small()
    leaf = batch.embeddings.requires_grad_()
    sums = total(case, batch._replace(embeddings=leaf)).sum.reshape(-1)
    asked = torch.randn(3, len(sums), generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    (together,) = torch.autograd.grad(sums, leaf, asked, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(sums, leaf, single, retain_graph=True)[0] for single in asked]
    assert_near([together], [torch.stack(each)], 1e-11)


@pytest.mark.parametrize("case", [ONE_OF_EACH[place] for place in (0, 3, 5, 8, 9)], ids=str)
def test_a_compiled_loss_equals_it_in_eager_mode(case: Case) -> None:
    batch = small()
    torch._dynamo.reset()
    results = []
    for of_embeddings in (
        function(case, batch),
        torch.compile(function(case, batch), fullgraph=True, backend="aot_eager"),
    ):
        leaf = batch.embeddings.clone().requires_grad_()
        value = of_embeddings(leaf)
        results.append([value.detach(), torch.autograd.grad(value, leaf)[0]])
    assert_near(*results, 1e-11)


@one_of_each
def test_a_checkpoint_around_the_loss_changes_nothing(case: Case) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    expected = torch.autograd.grad(function(case, batch)(leaf), leaf)
    for reentrant in (False, True):
        again = leaf.detach().requires_grad_()
        value = checkpoint(function(case, batch), again, use_reentrant=reentrant)
        value.backward()
        assert again.grad is not None
        assert torch.equal(again.grad, expected[0])


@one_of_each
def test_autocast_changes_nothing(case: Case) -> None:
    batch = small()._replace(embeddings=small().embeddings.float())
    leaf = batch.embeddings.clone().requires_grad_()
    value = function(case, batch)(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    with torch.autocast("cpu", torch.bfloat16):
        inside = function(case, batch)(leaf)
    assert torch.equal(inside, value)
    assert torch.equal(torch.autograd.grad(inside, leaf)[0], gradient)


@one_of_each
def test_strides_of_the_embeddings_do_not_matter(case: Case) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    expected = torch.autograd.grad(function(case, batch)(leaf), leaf)[0]
    wide = torch.zeros(16, 7, dtype=torch.float64)
    views = (
        batch.embeddings.mT.contiguous().mT,
        wide[::2, 1::2],
        torch.zeros(8, dtype=torch.float64).expand(3, 8).mT.clone(),
    )
    for view in views:
        view.copy_(batch.embeddings)
        leaf = view.detach().requires_grad_()
        assert_near([torch.autograd.grad(function(case, batch)(leaf), leaf)[0]], [expected], 1e-12)


@one_of_each
def test_without_a_gradient_the_value_is_the_same_and_nothing_is_kept(case: Case, made: list[tiles.Tiles]) -> None:
    batch, kept = small(), []
    leaf = batch.embeddings.clone().requires_grad_()
    expected = function(case, batch)(leaf).detach()
    made.clear()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        constant = function(case, batch)(batch.embeddings)
        with torch.no_grad():
            unseen = function(case, batch)(leaf)
        with torch.inference_mode():
            inferred = function(case, batch)(batch.embeddings.clone())
    assert made
    assert not kept
    assert not any(each.differentiable for each in made)
    for value in (constant, unseen, inferred):
        assert not value.requires_grad
        assert torch.equal(value, expected)


@one_of_each
def test_a_loss_used_twice_in_one_graph_gives_the_sum_of_its_gradients(case: Case) -> None:
    batch = small()
    leaf, of_embeddings = batch.embeddings.clone().requires_grad_(), function(case, batch)
    gradients = [
        torch.autograd.grad(of_embeddings(points), leaf)[0] for points in (leaf, leaf * 2 + 0.1 * leaf.flip(0))
    ]
    (both,) = torch.autograd.grad(of_embeddings(leaf) + 2 * of_embeddings(leaf * 2 + 0.1 * leaf.flip(0)), leaf)
    assert_near([both], [gradients[0] + 2 * gradients[1]], 1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
@one_of_each
def test_embeddings_overwritten_after_forward_are_noticed_or_do_not_matter(case: Case, create_graph: bool) -> None:
    batch = small()
    points = batch.embeddings.clone().requires_grad_() * 1
    (expected,) = torch.autograd.grad(function(case, batch)(points), points, create_graph=create_graph)
    value = function(case, batch)(points)
    with torch.no_grad():
        points.add_(1)
    keeps_copies = case.of_pairs or case.parameters.get("mining") == "hard"
    try:
        (gradient,) = torch.autograd.grad(value, points, create_graph=create_graph)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert keeps_copies
        assert_near([gradient.detach()], [expected.detach()], 1e-12)
