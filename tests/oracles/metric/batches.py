"""Labelled embeddings, indices of miners, reference sets, and how losses of pytorch-metric-learning are called."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from losses import Pairs, Triplets
from losses.adapters.pytorch_metric_learning import distances as pml_distances
from losses.adapters.pytorch_metric_learning import miners as pml_miners
from tests.oracles.case import Answer, OracleBatch, normal, uniform

EUCLIDEAN = pml_distances.LpDistance(normalize_embeddings=False, power=1)
SQUARED = pml_distances.LpDistance(normalize_embeddings=False, power=2)
COSINE = pml_distances.CosineSimilarity()
PML_DISTANCES = {"euclidean": EUCLIDEAN, "squared_euclidean": SQUARED, "cosine": COSINE}


def apart(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Return the distance of two vectors."""
    if distance == "cosine":
        return 1 - (first @ second) / (first.norm() * second.norm())
    squared = ((first - second) ** 2).sum()
    if distance == "squared_euclidean" or not squared:
        return squared
    return squared.sqrt()


def labelled(size: int = 7, count: int = 3, dimension: int = 3) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of embeddings whose classes differ in size: some may hold one embedding, some none."""

    def draw(random: Generator) -> OracleBatch:
        labels = (uniform(random, size) ** 2 * count).long()
        labels[:3] = torch.tensor([0, 0, 1])  # there is something to compare
        return OracleBatch(normal(random, size, dimension), labels)

    return draw


def with_reference(draw: Callable[[Generator], OracleBatch], size: int = 5) -> Callable[[Generator], OracleBatch]:
    def drawer(random: Generator) -> OracleBatch:
        embeddings, labels, options, _ = draw(random)
        others, other_labels = normal(random, size, embeddings.shape[1]), torch.randint(3, (size,), generator=random)
        other_labels[:2] = torch.tensor([0, 1])
        return OracleBatch(embeddings, labels, {**options, "reference": (others, other_labels)})

    return drawer


def with_indices(
    draw: Callable[[Generator], OracleBatch], make: Callable[..., tuple[Tensor, ...]]
) -> Callable[[Generator], OracleBatch]:
    """Return a drawer that adds the tuple that a miner makes of a batch."""

    def drawer(random: Generator) -> OracleBatch:
        embeddings, labels, options, _ = draw(random)
        others, other_labels = options.get("reference", (embeddings, labels))
        sides = (
            (embeddings.detach(), labels)
            if "reference" not in options
            else (embeddings.detach(), labels, others.detach(), other_labels)
        )
        return OracleBatch(embeddings, labels, {**options, "indices": make(*sides)})

    return drawer


def given_pairs(random: Generator) -> OracleBatch:
    return OracleBatch(Pairs(normal(random, 8, 3), normal(random, 8, 3)), torch.arange(8) % 3 == 0)


def given_triplets(random: Generator) -> OracleBatch:
    return OracleBatch(Triplets(normal(random, 8, 3), normal(random, 8, 3), normal(random, 8, 3)), None)


def some_triplets(
    embeddings: Tensor, labels: Tensor, others: Tensor | None = None, other_labels: Tensor | None = None
) -> Any:
    """Return every second triplet of a batch, the first of them twice."""
    triplets = list(triplets_of(labels, labels if other_labels is None else other_labels, others is not None))[::2]
    return tuple(torch.tensor(column, dtype=torch.long) for column in zip(*triplets, triplets[0], strict=True))


def some_pairs(
    embeddings: Tensor, labels: Tensor, others: Tensor | None = None, other_labels: Tensor | None = None
) -> Any:
    """Return every second positive pair and every third negative one, the first of each twice."""
    positive, negative = pairs_of(labels, labels if other_labels is None else other_labels, others is not None)
    columns = (*zip(*positive[::2], positive[0], strict=True), *zip(*negative[::3], negative[0], strict=True))
    return tuple(torch.tensor(column, dtype=torch.long) for column in columns)


def pairs_of(
    labels: Tensor, other_labels: Tensor, has_reference: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    positive, negative = [], []
    for i, j in itertools.product(range(len(labels)), range(len(other_labels))):
        if i == j and not has_reference:
            continue
        (positive if labels[i] == other_labels[j] else negative).append((i, j))
    return positive, negative


def triplets_of(labels: Tensor, other_labels: Tensor, has_reference: bool) -> Iterator[tuple[int, int, int]]:
    positive, negative = pairs_of(labels, other_labels, has_reference)
    for anchor, near in positive:
        for second, far in negative:
            if anchor == second:
                yield anchor, near, far


def tuple_as_pairs(indices: tuple[Tensor, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    columns = [column.tolist() for column in indices]
    if len(columns) == 3:
        columns = [columns[0], columns[1], columns[0], columns[2]]
    return list(zip(*columns[:2], strict=True)), list(zip(*columns[2:], strict=True))


def cosines_of(output: Tensor, others: Tensor, pairs: Iterable[tuple[int, int]], anchor: int) -> list[Tensor]:
    """Return the similarity of every pair of one anchor."""
    return [1 - apart(output[i], others[j], "cosine") for i, j in pairs if i == anchor]


def pml(loss: Any) -> Answer:
    """Return a loss of pytorch-metric-learning, called as ours are."""

    def value(embeddings: Tensor, labels: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        return loss(embeddings, labels, indices, *((None, None) if reference is None else reference))

    return value


LABELLED = labelled()
PML_MINERS = {
    "pair_margin": pml_miners.PairMarginMiner(pos_margin=0.2, neg_margin=2.5, distance=EUCLIDEAN),
    "batch_hard": pml_miners.BatchHardMiner(distance=EUCLIDEAN),
    "semi_hard": pml_miners.TripletMarginMiner(margin=1.0, type_of_triplets="semihard", distance=EUCLIDEAN),
    "easy_hard": pml_miners.BatchEasyHardMiner(distance=EUCLIDEAN),
}
WITH_CONTEXT = (
    ("reference", with_reference(LABELLED)),
    ("indices_of_triplets", with_indices(LABELLED, some_triplets)),
    ("indices_of_pairs", with_indices(LABELLED, some_pairs)),
    ("reference_indices", with_indices(with_reference(LABELLED), some_pairs)),
)
"""What a loss over anchors is asked beside a plain batch."""
MINED = (
    ("batch", labelled(size=20, count=5)),
    ("reference", with_reference(LABELLED)),
    ("indices", with_indices(labelled(size=12, count=4), PML_MINERS["pair_margin"])),
    ("triplets", with_indices(labelled(size=12, count=4), PML_MINERS["batch_hard"])),
    ("reference_indices", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
)
"""What pytorch-metric-learning is asked, too."""
