"""Readings of metric losses against a loop over pairs and triplets, and what taking them must never do."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import losses
from losses import InputError, Pairs, Triplets
from losses.checking.invariances import Readings, Synchronisations
from losses.ops import readings as module

NAMES = {"active_fraction", "positive_distance", "negative_distance", "margin_violations", "collapse", "effective_rank"}
OF_BATCHES: list[dict[str, Any]] = [
    {"name": "triplet", "margin": 0.5},
    {"name": "triplet", "margin": 1.5, "average": "all", "distance": "squared_euclidean"},
    {"name": "triplet", "margin": 0.3, "distance": "cosine"},
    {"name": "triplet", "margin": "soft"},
    {"name": "triplet", "margin": 0.5, "swap": True},
    {"name": "triplet", "margin": 0.5, "mining": "hard"},
    {"name": "triplet", "margin": "soft", "mining": "hard", "average": "all"},
    {"name": "triplet", "margin": 0.5, "mining": "semi_hard"},
    {"name": "contrastive"},
    {"name": "contrastive", "margin": 2.0, "positive_margin": 0.4, "average": "active", "power": 1},
    {"name": "contrastive", "margin": 3.0, "average": "balanced", "distance": "squared_euclidean"},
    {"name": "contrastive", "margin": 0.5, "positive_margin": 0.7, "distance": "cosine"},
    {"name": "circle"},
    {"name": "circle", "margin": 0.25, "scale": 4.0},
    {"name": "info_nce"},
    {"name": "supervised_contrastive", "temperature": 0.5},
]
each_loss = pytest.mark.parametrize("parameters", OF_BATCHES, ids=lambda p: "-".join(map(str, p.values())))


class Batch(NamedTuple):
    """Embeddings with their labels, and what else a metric loss takes with them."""

    embeddings: Tensor
    labels: Tensor
    context: dict[str, Any]

    @property
    def others(self) -> tuple[Tensor, Tensor]:
        return self.context.get("reference", (self.embeddings, self.labels))

    def pairs(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return all positive and all negative pairs (anchor, other)."""
        if indices := self.context.get("indices"):
            anchor, positive, *other, negative = (index.tolist() for index in indices)
            return list(zip(anchor, positive, strict=True)), list(
                zip(other[0] if other else anchor, negative, strict=True)
            )
        labels, of_others = self.labels.tolist(), self.others[1].tolist()
        every = [pair for pair in itertools.product(range(len(labels)), range(len(of_others))) if self.is_pair(*pair)]
        same = [labels[a] == of_others[o] for a, o in every]
        return list(itertools.compress(every, same)), list(itertools.compress(every, [not one for one in same]))

    def is_pair(self, anchor: int, other: int) -> bool:
        return "reference" in self.context or anchor != other

    def triplets(self) -> list[tuple[int, int, int]]:
        positive, negative = self.pairs()
        if len(self.context.get("indices", ())) == 3:
            return [(a, p, n) for (a, p), (_, n) in zip(positive, negative, strict=True)]
        return [(a, p, n) for a, p in positive for b, n in negative if a == b]


def batches() -> Iterator[tuple[str, Batch]]:
    random = torch.Generator().manual_seed(0)

    def points(size: int) -> Tensor:
        return torch.randn(size, 3, generator=random, dtype=torch.float64)

    labels = torch.tensor([4, 0, 0, 7, 2, 2, 0, 2, 2, 9, 4, 2])  # 7 and 9 are alone
    twice = points(12)
    twice[[2, 7]] = twice[[1, 3]].clone()  # one pair of equal points in a class, one between classes
    reference = points(7), torch.tensor([0, 0, 4, 1, 2, 2, 1])
    triplets = tuple(torch.tensor(index) for index in ([1, 1, 4, 4, 0], [2, 6, 5, 5, 10], [0, 3, 1, 1, 2]))
    pairs = tuple(torch.tensor(index) for index in ([1, 1, 4, 4, 0], [2, 6, 5, 7, 10], [1, 4, 9], [0, 3, 1]))
    yield "singletons", Batch(points(12), labels, {})
    yield "duplicates", Batch(twice, labels, {})
    yield "one class", Batch(points(5), torch.zeros(5, dtype=torch.long), {})
    yield "nothing but singletons", Batch(points(5), torch.arange(5), {})
    yield "nothing", Batch(points(0), labels[:0], {})
    yield "one point", Batch(points(1), labels[:1], {})
    yield "one positive pair", Batch(points(2), torch.zeros(2, dtype=torch.long), {})
    yield "reference", Batch(points(12), labels, {"reference": reference})
    yield "empty reference", Batch(points(12), labels, {"reference": (points(0), labels[:0])})
    yield "triplets of a miner", Batch(points(12), labels, {"indices": triplets})
    yield "pairs of a miner", Batch(points(12), labels, {"indices": pairs})
    yield "a miner that found nothing", Batch(points(12), labels, {"indices": tuple(index[:0] for index in triplets)})
    yield (
        "indices into a reference",
        Batch(
            points(12),
            labels,
            {"reference": reference, "indices": tuple(torch.tensor(i) for i in ([1, 4], [0, 5], [3, 6]))},
        ),
    )


BATCHES = dict(batches())
each_batch = pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())


def distance(first: Tensor, second: Tensor, measure: str) -> float:
    if measure == "cosine":
        first, second = (point / max(point.norm(), 1e-300) for point in (first, second))
        return float((first - second).square().sum() / 2)
    squared = float((first - second).square().sum())
    return math.sqrt(squared) if measure == "euclidean" else squared


def mean(values: list[Any]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def rank(points: Tensor) -> float:
    """Return the exponential of the entropy of the singular values."""
    if len(points) < 2:
        return 0.0
    values = numpy.linalg.svd((points - points.mean(0)).numpy(), compute_uv=False)
    shares = [value / sum(values) for value in values if value > 1e-14]
    return math.exp(-sum(part * math.log(part) for part in shares)) if shares else 0.0


def measure_of(loss: Any) -> str:
    return getattr(loss, "distance", "cosine")


def gap_of(loss: Any) -> float:
    """Return how much farther than every positive every negative should be."""
    match loss.spec.name:
        case "triplet":
            return 0.0 if loss.margin == "soft" else loss.margin
        case "contrastive":
            return loss.margin - loss.positive_margin
        case "circle":
            return 1 - 2 * loss.margin
    return 0.0


def value_of(loss: Any, *batch: Any, **context: Any) -> float:
    """Return the loss that the reading ``collapse`` is about: averaged over all items, because active ones cost about a
    margin anyway."""
    changes = {"average": "all"} if hasattr(loss, "average") else {}
    return float(losses.create(loss.config() | changes)(*batch, **context))


def expected(loss: Any, batch: Batch) -> dict[str, float]:
    """Return the readings of a batch, by a loop."""
    others, measure, gap = batch.others[0], measure_of(loss), gap_of(loss)
    positive, negative = batch.pairs()

    def away(a: int, o: int) -> float:
        return distance(batch.embeddings[a], others[o], measure)

    near, far = ([away(*pair) for pair in pairs] for pairs in (positive, negative))
    violations = []
    for anchor in range(len(batch.embeddings)):
        of_anchor = [
            [d for d, (a, _) in zip(side, pairs, strict=True) if a == anchor]
            for side, pairs in ((near, positive), (far, negative))
        ]
        if all(of_anchor):
            violations.append(max(of_anchor[0]) + gap >= min(of_anchor[1]))
    value = value_of(loss, batch.embeddings, batch.labels, **batch.context)
    return {
        "active_fraction": mean(active(loss, batch, away)),
        "positive_distance": mean(near),
        "negative_distance": mean(far),
        "margin_violations": mean(violations),
        "collapse": ratio(value, at_one_point(loss, batch)),
        "effective_rank": rank(batch.embeddings),
    }


def active(loss: Any, batch: Batch, away: Any) -> list[bool]:
    """Return for every item whether it still costs something, or counts."""
    positive, negative = batch.pairs()
    anchors = range(len(batch.embeddings))
    match loss.spec.name:
        case "triplet":
            chosen = batch.triplets() if "indices" in batch.context else mined(loss, batch.triplets(), away)
            far = {(a, p, n): away(a, n) for a, p, n in chosen}
            if loss.swap:
                others = batch.others[0]
                far = {(a, p, n): min(d, distance(others[p], others[n], loss.distance)) for (a, p, n), d in far.items()}
            return [loss.margin == "soft" or away(a, p) - far[a, p, n] + loss.margin > 0 for a, p, n in chosen]
        case "contrastive":
            if not batch.context:  # every unordered pair once
                positive, negative = ([(a, o) for a, o in pairs if a < o] for pairs in (positive, negative))
            costs = [away(*pair) - loss.positive_margin for pair in positive] + [
                loss.margin - away(*pair) for pair in negative
            ]
            return [cost > 0 for cost in costs]
        case "circle":
            return [any(a == b for b, _ in positive) and any(a == b for b, _ in negative) for a in anchors]
        case "info_nce":
            return [any(a == b for b, _ in positive) for a in anchors]
        case "supervised_contrastive":
            compared = {*positive, *negative}
            return [any(a == b for b, _ in positive) and sum(a == b for b, _ in compared) > 1 for a in anchors]
    raise AssertionError(loss)


def mined(loss: Any, triplets: list[tuple[int, int, int]], away: Any) -> list[tuple[int, int, int]]:
    """Return the triplets that are chosen among all."""
    if loss.mining == "all":
        return triplets
    chosen = []
    for _, group in itertools.groupby(triplets, key=lambda t: t[0] if loss.mining == "hard" else t[:2]):
        members = list(group)
        if loss.mining == "hard":
            chosen.append(max(members, key=lambda t: away(t[0], t[1]) - away(t[0], t[2])))
        else:
            farther = [(a, p, n) for a, p, n in members if away(a, n) > away(a, p) * (1 + 1e-12)]
            chosen.append(
                min(farther, key=lambda t: away(t[0], t[2]))
                if farther
                else max(members, key=lambda t: away(t[0], t[2]))
            )
    return chosen


def at_one_point(loss: Any, batch: Batch) -> float:
    """Return the loss of a batch whose embeddings are all equal, in closed form."""
    positive, negative = batch.pairs()
    counts = [
        (sum(a == b for b, _ in positive), sum(a == b for b, _ in negative)) for a in range(len(batch.embeddings))
    ]
    match loss.spec.name:
        case "triplet":
            return (math.log(2) if loss.margin == "soft" else loss.margin) if batch.triplets() else 0.0
        case "contrastive":
            return ratio(len(negative), len(positive) + len(negative)) * loss.margin**loss.power / loss.power
        case "circle":
            exponent = loss.scale * ((1 + loss.margin) * (1 - loss.margin) - loss.margin**2)
            ways = [len(set(p)) * len(set(n)) for p, n in both_sides(batch)]
            return mean(
                [math.log(number) + math.log1p(math.exp(-exponent) / number) + exponent for number in ways if number]
            )
        case "info_nce":
            return mean([math.log1p(n) for p, n in counts for _ in range(p)])
        case "supervised_contrastive":
            compared = [(p, {*p, *n}) for p, n in both_sides(batch)]
            return mean([math.log(len(every)) for p, every in compared if p and len(every) > 1])
    raise AssertionError(loss)


def both_sides(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Return the positives and the negatives of every anchor."""
    positive, negative = batch.pairs()
    anchors = range(len(batch.embeddings))
    return [([o for b, o in positive if a == b], [o for b, o in negative if a == b]) for a in anchors]


def read(loss: Any, *batch: Any, **context: Any) -> dict[str, float]:
    """Return readings as numbers: scalars, finite, without gradient, all six of them."""
    taken = loss.readings(*batch, **context)
    assert taken.keys() == NAMES
    for value in taken.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.isfinite()
    return {name: float(value) for name, value in taken.items()}


def assert_same(taken: dict[str, float], wanted: dict[str, float], tolerance: float = 1e-9) -> None:
    for name, value in wanted.items():
        assert taken[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("blockwise", [True, False], ids=["blockwise", "plain"])
@each_batch
@each_loss
def test_readings_equal_a_loop_over_pairs_and_triplets(
    parameters: dict[str, Any], batch: Batch, blockwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not blockwise:
        monkeypatch.setattr(module, "tileable", lambda *_: False)
    loss = losses.create(parameters)
    assert_same(
        read(loss, batch.embeddings.clone().requires_grad_(), batch.labels, **batch.context), expected(loss, batch)
    )


@pytest.mark.parametrize("parameters", [p for p in OF_BATCHES if p["name"] in ("contrastive", "circle")], ids=str)
@pytest.mark.parametrize("same", [[1, 0, 1, 0, 0], [1] * 5, [0] * 5, []], ids=str)
def test_readings_of_pairs_equal_a_loop(parameters: dict[str, Any], same: list[int]) -> None:
    loss = losses.create(parameters)
    random = torch.Generator().manual_seed(1)
    pairs = Pairs(*(torch.randn(len(same), 3, generator=random, dtype=torch.float64) for _ in range(2)))
    if same:
        pairs.second[0] = pairs.first[0]
    away = [distance(a, b, measure_of(loss)) for a, b in zip(*pairs, strict=True)]
    near, far = ([d for d, one in zip(away, same, strict=True) if bool(one) is side] for side in (True, False))
    if loss.spec.name == "contrastive":
        costs = mean([d > loss.positive_margin for d in near] + [d < loss.margin for d in far])
        at_one = ratio(len(far), len(same)) * loss.margin**loss.power / loss.power
    else:
        costs = float(bool(near and far))
        exponent = loss.scale * ((1 + loss.margin) * (1 - loss.margin) - loss.margin**2)
        number = len(near) * len(far)
        at_one = exponent + math.log(number + math.exp(-exponent)) if number else 0.0
    value = value_of(loss, pairs, torch.tensor(same, dtype=torch.long))
    wanted = {
        "active_fraction": costs,
        "positive_distance": mean(near),
        "negative_distance": mean(far),
        "margin_violations": costs,
        "collapse": ratio(value, at_one),
        "effective_rank": rank(torch.cat(pairs)),
    }
    assert_same(read(loss, pairs, torch.tensor(same, dtype=torch.long)), wanted)


@pytest.mark.parametrize(
    "parameters", [p for p in OF_BATCHES if p["name"] == "triplet" and not p.get("mining")], ids=str
)
@pytest.mark.parametrize("size", [0, 1, 6])
def test_readings_of_triplets_equal_a_loop(parameters: dict[str, Any], size: int) -> None:
    loss = losses.create(parameters)
    random = torch.Generator().manual_seed(2)
    triplets = Triplets(*(torch.randn(size, 3, generator=random, dtype=torch.float64) for _ in range(3)))
    near, far, between = (
        [distance(a, b, loss.distance) for a, b in zip(triplets[one], triplets[other], strict=True)]
        for one, other in ((0, 1), (0, 2), (1, 2))
    )
    nearest = [min(d, e) for d, e in zip(far, between, strict=True)] if loss.swap else far
    limit = 0.0 if loss.margin == "soft" else loss.margin
    costly = mean([loss.margin == "soft" or p + limit > n for p, n in zip(near, nearest, strict=True)])
    wanted = {
        "active_fraction": costly,
        "positive_distance": mean(near),
        "negative_distance": mean(far),
        "margin_violations": costly,
        "collapse": ratio(value_of(loss, triplets), math.log(2) if loss.margin == "soft" else loss.margin)
        if size
        else 0.0,
        "effective_rank": rank(torch.cat(triplets)),
    }
    assert_same(read(loss, triplets), wanted)


@pytest.mark.parametrize("negatives", ["second", "both"])
@pytest.mark.parametrize("direction", ["both", "forward"])
@pytest.mark.parametrize("size", [0, 1, 2, 6])
def test_readings_of_matching_rows_equal_a_loop_over_classes_of_two(negatives: str, direction: str, size: int) -> None:
    loss = losses.create("info_nce", negatives=negatives, direction=direction)
    random = torch.Generator().manual_seed(3)
    pairs = Pairs(*(torch.randn(size, 3, generator=random, dtype=torch.float64) for _ in range(2)))
    as_batch = Batch(torch.cat(pairs), torch.arange(size).repeat(2), {})
    wanted = expected(losses.create("info_nce"), as_batch)
    at_one = math.log1p((size - 1) * (1 if negatives == "second" else 2)) if size else 0.0
    assert_same(read(loss, pairs), wanted | {"collapse": ratio(value_of(loss, pairs), at_one)})


def all_outputs(parameters: dict[str, Any], size: int = 8) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Yield a batch of every kind that a loss takes, in float32."""
    random = torch.Generator().manual_seed(4)
    first, second, third = (torch.randn(size, 5, generator=random) for _ in range(3))
    labels = torch.arange(size) % 3
    yield first, labels, {}
    yield first, labels, {"reference": (second, labels.flip(0))}
    match parameters["name"]:
        case "contrastive" | "circle":
            yield Pairs(first, second), torch.arange(size) % 2, {}
        case "info_nce":
            yield Pairs(first, second), None, {}
        case "triplet":
            yield Triplets(first, second, third), None, {}


def filled(output: Any, value: float) -> Any:
    return (
        torch.full_like(output, value)
        if isinstance(output, Tensor)
        else type(output)(*(torch.full_like(part, value) for part in output))
    )


@each_loss
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e4])
def test_embeddings_at_one_point_have_collapsed(parameters: dict[str, Any], value: float) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        if "reference" in context:
            context = {"reference": (torch.full_like(output, value), context["reference"][1])}
        taken = read(loss, filled(output, value), target, **context)
        # the cosine of zeros is 0, and that of anything else with itself 1
        if value or measure_of(loss) != "cosine":
            assert taken["collapse"] == pytest.approx(1)
            assert taken["positive_distance"] == taken["negative_distance"] == 0
        assert taken["effective_rank"] == 0


@pytest.mark.parametrize("margin", [0.2, 1.0, "soft"])
@pytest.mark.parametrize("average", ["all", "active"])
def test_hard_mining_stuck_at_the_margin_is_told_from_one_that_learns(margin: Any, average: str) -> None:
    loss = losses.create("triplet", margin=margin, mining="hard", average=average)
    labels = torch.arange(4).repeat_interleave(3)
    point = torch.nn.functional.normalize(torch.ones(12, 6), dim=1)
    stuck = read(loss, point, labels)
    assert float(loss(point, labels)) == pytest.approx(math.log(2) if margin == "soft" else margin)
    assert stuck == {
        **dict.fromkeys(NAMES, 0.0),
        "active_fraction": 1.0,
        "margin_violations": 1.0,
        "collapse": pytest.approx(1),
    }
    nearly = read(loss, point + 1e-5 * torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), labels)
    assert nearly["collapse"] == pytest.approx(1, abs=1e-2)
    learnt = read(loss, 3 * torch.eye(6)[labels], labels)
    assert learnt["collapse"] < 0.05
    assert learnt["margin_violations"] == 0


@each_loss
def test_nothing_is_differentiated_and_nothing_changes(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        leaves = [output] if isinstance(output, Tensor) else list(output)
        for leaf in leaves:
            leaf.requires_grad_()
        before, random, setting = [leaf.detach().clone() for leaf in leaves], torch.get_rng_state(), loss.config()
        first = read(loss, output, target, **context)
        with torch.inference_mode():
            assert read(loss, output, target, **context) == first
        assert all(leaf.grad is None for leaf in leaves)
        assert all(torch.equal(leaf, former) for leaf, former in zip(leaves, before, strict=True))
        assert torch.equal(torch.get_rng_state(), random)
        assert loss.config() == setting


@each_loss
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_reduction_does_not_matter(parameters: dict[str, Any], reduction: str) -> None:
    for output, target, context in all_outputs(parameters):
        taken, other = (
            read(losses.create({**parameters, "reduction": way}), output, target, **context)
            for way in ("mean", reduction)
        )
        assert taken == other


@each_loss
def test_no_value_is_read_after_the_first_batch(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        first = loss.readings(output, target, **context)
        with Synchronisations() as seen, Readings() as brought:
            again = loss.readings(output, target, **context)
        assert not seen.calls
        assert not brought.calls
        torch.testing.assert_close(again, first)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 1e4])
def test_readings_are_never_nan(parameters: dict[str, Any], dtype: torch.dtype, scale: float) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        scaled = (
            (output * scale).to(dtype)
            if isinstance(output, Tensor)
            else type(output)(*((part * scale).to(dtype) for part in output))
        )
        read(loss, scaled, target, **context)  # which asks for finite numbers


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read_in_single(parameters: dict[str, Any], dtype: torch.dtype) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        half = output.to(dtype) if isinstance(output, Tensor) else type(output)(*(part.to(dtype) for part in output))
        single = half.float() if isinstance(half, Tensor) else type(half)(*(part.float() for part in half))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            taken = read(loss, half, target, **context)
        assert_same(taken, read(loss, single, target, **context), 1e-6)


@each_loss
@pytest.mark.parametrize("size", [300, 700])
def test_blocks_equal_the_plain_composition(
    parameters: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = losses.create(parameters)
    random = torch.Generator().manual_seed(5)
    embeddings = torch.randn(size, 8, generator=random, dtype=torch.float64)
    labels = (torch.rand(size, generator=random) ** 2 * 40).long()
    contexts: list[dict[str, Any]] = [{}, {"reference": (embeddings[:200] + 0.1, labels[:200])}]
    blockwise = [read(loss, embeddings, labels, **context) for context in contexts]
    monkeypatch.setattr(module, "tileable", lambda *_: False)
    for context, taken in zip(contexts, blockwise, strict=True):
        assert_same(taken, read(loss, embeddings, labels, **context), 1e-9)


class Largest(TorchDispatchMode):
    """Record the number of elements of the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [
            tensor
            for tensor in (result if isinstance(result, tuple | list) else [result])
            if isinstance(tensor, Tensor)
        ]
        self.size = max(self.size, *(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in made), 0)
        return result


@pytest.mark.parametrize(
    "parameters",
    # where nothing may be read, as under this mode, triplets that are soft or swapped are not summed in blocks
    [p for p in OF_BATCHES if not p.get("swap") and (p.get("margin") != "soft" or "mining" in p)],
    ids=lambda p: "-".join(map(str, p.values())),
)
def test_no_matrix_of_all_pairs_is_made(parameters: dict[str, Any]) -> None:
    size = 2048
    loss = losses.create(parameters)
    embeddings = torch.randn(size, 4, generator=torch.Generator().manual_seed(6))
    with Largest() as largest:
        loss.readings(embeddings, torch.arange(size) // 4)
    assert largest.size < size * size / 2


@pytest.mark.parametrize("name", [spec for spec in losses.available() if spec not in {p["name"] for p in OF_BATCHES}])
def test_losses_of_anything_but_embeddings_have_no_readings(name: str) -> None:
    loss = losses.create(name)
    kind = loss.spec.inputs[0]
    assert loss.readings(*kind.draw(loss, 4, torch.Generator().manual_seed(0))) == {}


@each_loss
def test_a_batch_that_the_loss_refuses_is_refused(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    with pytest.raises(InputError, match="labels"):
        loss.readings(torch.randn(4, 2), torch.arange(3))
    with pytest.raises(InputError, match="takes no 'anchors'"):
        loss.readings(torch.randn(4, 2), torch.arange(4), anchors=3)
