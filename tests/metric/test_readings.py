"""Readings of metric losses against a loop over pairs and triplets."""

import math
from typing import Any

import pytest
import torch

import losses
from losses import Pairs, Triplets
from losses.abstract import readings as module
from tests.metric.reading_loops import (
    OF_BATCHES,
    ReadingsBatch,
    assert_same,
    distance,
    each_batch,
    each_loss,
    expected,
    mean,
    measure_of,
    rank,
    ratio,
    read,
    value_of,
)


@pytest.mark.parametrize("blockwise", [True, False], ids=["blockwise", "plain"])
@each_batch
@each_loss
def test_readings_equal_a_loop_over_pairs_and_triplets(
    parameters: dict[str, Any], batch: ReadingsBatch, blockwise: bool, monkeypatch: pytest.MonkeyPatch
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
        "relative_loss": ratio(value, at_one),
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
        "relative_loss": ratio(value_of(loss, triplets), math.log(2) if loss.margin == "soft" else loss.margin)
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
    as_batch = ReadingsBatch(torch.cat(pairs), torch.arange(size).repeat(2), {})
    wanted = expected(losses.create("info_nce"), as_batch)
    at_one = math.log1p((size - 1) * (1 if negatives == "second" else 2)) if size else 0.0
    assert_same(read(loss, pairs), wanted | {"relative_loss": ratio(value_of(loss, pairs), at_one)})
