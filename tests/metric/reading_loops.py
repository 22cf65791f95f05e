"""Readings of metric losses by a loop over pairs and triplets, and batches to take them of."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor

import losses

NAMES = {
    "active_fraction",
    "positive_distance",
    "negative_distance",
    "margin_violations",
    "relative_loss",
    "effective_rank",
}
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
    {"name": "multi_similarity", "beta": 5.0},
    {"name": "multi_similarity", "mining_epsilon": 0.1},
]
each_loss = pytest.mark.parametrize("parameters", OF_BATCHES, ids=lambda p: "-".join(map(str, p.values())))


class ReadingsBatch(NamedTuple):
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


def batches() -> Iterator[tuple[str, ReadingsBatch]]:
    random = torch.Generator().manual_seed(0)

    def points(size: int) -> Tensor:
        return torch.randn(size, 3, generator=random, dtype=torch.float64)

    labels = torch.tensor([4, 0, 0, 7, 2, 2, 0, 2, 2, 9, 4, 2])  # 7 and 9 are alone
    twice = points(12)
    twice[[2, 7]] = twice[[1, 3]].clone()  # one pair of equal points in a class, one between classes
    reference = points(7), torch.tensor([0, 0, 4, 1, 2, 2, 1])
    triplets = tuple(torch.tensor(index) for index in ([1, 1, 4, 4, 0], [2, 6, 5, 5, 10], [0, 3, 1, 1, 2]))
    pairs = tuple(torch.tensor(index) for index in ([1, 1, 4, 4, 0], [2, 6, 5, 7, 10], [1, 4, 9], [0, 3, 1]))
    yield "singletons", ReadingsBatch(points(12), labels, {})
    yield "duplicates", ReadingsBatch(twice, labels, {})
    yield "one class", ReadingsBatch(points(5), torch.zeros(5, dtype=torch.long), {})
    yield "nothing but singletons", ReadingsBatch(points(5), torch.arange(5), {})
    yield "nothing", ReadingsBatch(points(0), labels[:0], {})
    yield "one point", ReadingsBatch(points(1), labels[:1], {})
    yield "one positive pair", ReadingsBatch(points(2), torch.zeros(2, dtype=torch.long), {})
    yield "reference", ReadingsBatch(points(12), labels, {"reference": reference})
    yield "empty reference", ReadingsBatch(points(12), labels, {"reference": (points(0), labels[:0])})
    yield "triplets of a miner", ReadingsBatch(points(12), labels, {"indices": triplets})
    yield "pairs of a miner", ReadingsBatch(points(12), labels, {"indices": pairs})
    yield (
        "a miner that found nothing",
        ReadingsBatch(points(12), labels, {"indices": tuple(index[:0] for index in triplets)}),
    )
    yield (
        "indices into a reference",
        ReadingsBatch(
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
    """Return the loss that the reading ``relative_loss`` is about: averaged over all items, because active ones cost
    about a margin anyway."""
    changes = {"average": "all"} if hasattr(loss, "average") else {}
    return float(losses.create(loss.config() | changes)(*batch, **context))


def expected(loss: Any, batch: ReadingsBatch) -> dict[str, float]:
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
        "relative_loss": ratio(value, at_one_point(loss, batch)),
        "effective_rank": rank(batch.embeddings),
    }


def active(loss: Any, batch: ReadingsBatch, away: Any) -> list[bool]:
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
        case "multi_similarity":
            return [any(a == b for b, _ in near + far) for a in anchors for near, far in [taken(loss, batch, a, away)]]
    raise AssertionError(loss)


def taken(loss: Any, batch: ReadingsBatch, anchor: int, away: Any) -> tuple[list[Any], list[Any]]:
    """Return the pairs of an anchor that the multi-similarity loss takes: all of them, or those that are mined."""
    near, far = ([pair for pair in side if pair[0] == anchor] for side in batch.pairs())
    if loss.mining_epsilon is None:
        return near, far
    most, least = min((away(*pair) for pair in far), default=math.inf), max((away(*pair) for pair in near), default=0)
    return (
        [pair for pair in near if far and away(*pair) + loss.mining_epsilon > most],
        [pair for pair in far if near and away(*pair) - loss.mining_epsilon < least],
    )


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


def at_one_point(loss: Any, batch: ReadingsBatch) -> float:
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
        case "multi_similarity":
            mines = loss.mining_epsilon is not None  # at one point a pair is as similar as any other
            near, far = math.exp(-loss.alpha * (1 - loss.base)), math.exp(loss.beta * (1 - loss.base))
            sizes = [(len(set(p)), len(set(n))) for p, n in both_sides(batch)]
            return mean(
                [
                    0.0
                    if mines and not (p and n)
                    else math.log1p(p * near) / loss.alpha + math.log1p(n * far) / loss.beta
                    for p, n in sizes
                ]
            )
    raise AssertionError(loss)


def both_sides(batch: ReadingsBatch) -> list[tuple[list[int], list[int]]]:
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
