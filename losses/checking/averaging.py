"""Clauses about the averaging convention: weights, reductions, normalizer."""

from __future__ import annotations

import math

import torch

from losses.checking.case import (
    HALVES,
    PRECISIONS,
    SIZE,
    TOGETHER,
    Broken,
    Case,
    NotApplicable,
    Precision,
    require_finite,
    require_same,
    rows_of,
)
from losses.checking.clauses import clause
from losses.core.inputs import Batch
from losses.core.outputs import map_floating

MANY = 100_000


@clause(of_the_call=True)
def reductions_agree(case: Case) -> None:
    """the three reductions, total and normalizer agree"""
    batch = case.batch()
    total = case.loss.total(*batch)
    items = case.with_reduction("none")(*batch)
    require_same("sum of 'none' against 'sum'", items.sum(), case.with_reduction("sum")(*batch))
    require_same("'sum' against total", total.sum.sum(), case.with_reduction("sum")(*batch))
    require_same("'mean' against total", total.mean(), case.with_reduction("mean")(*batch))
    require_same(
        "normalizer=2 against half the sum", case.with_reduction("mean")(*batch, normalizer=2), total.sum.sum() / 2
    )
    require_same("normalizer=0", case.with_reduction("mean")(*batch, normalizer=0), torch.zeros(()))


@clause(of_the_call=True)
def weight_of_one_changes_nothing(case: Case) -> None:
    """a weight of 1 for everything is no weight, a weight of 2 is twice the sum and the same mean"""
    batch, weight = case.batch(), case.weights(torch.ones(SIZE, dtype=torch.float64))
    mean, total = case.with_reduction("mean"), case.with_reduction("sum")
    require_same("weight=1", mean(*batch, weight=weight), mean(*batch))
    require_same("weight=2, mean", mean(*batch, weight=2 * weight), mean(*batch))
    require_same("weight=2, sum", total(*batch, weight=2 * weight), 2 * total(*batch))


@clause(of_the_call=True)
def weights_agree(case: Case) -> None:
    """with weights too, the three reductions and total agree"""
    batch, weight = case.batch(), case.weights(torch.linspace(0, 2, SIZE, dtype=torch.float64))
    total = case.loss.total(*batch, weight=weight)
    items = case.with_reduction("none")(*batch, weight=weight)
    require_same("sum of 'none' against 'sum'", items.sum(), case.with_reduction("sum")(*batch, weight=weight))
    require_same("'sum' against total", total.sum.sum(), case.with_reduction("sum")(*batch, weight=weight))
    require_same("'mean' against total", total.mean(), case.with_reduction("mean")(*batch, weight=weight))


@clause(of_the_call=True)
def zero_weight_hides(case: Case) -> None:
    """what has weight 0 changes nothing, in value or gradient, even where it is NaN"""
    weight = case.weights((torch.arange(SIZE) != 2).double())
    if case.kind in TOGETHER:
        raise NotApplicable("a sample is also its neighbours' positive or negative")
    batch = case.batch()
    poisoned = Batch(
        *(map_floating(part, lambda t: t.detach().index_fill(0, torch.tensor([2]), math.nan)) for part in batch)
    )
    value, gradients = case.run(batch, weight=weight)
    other, others = case.run(poisoned, weight=weight)
    require_same("value with NaN at weight 0", other, value)
    without = torch.arange(SIZE)[weight > 0]
    require_same("value without it", case.loss(*rows_of(batch, without)), value)
    for gradient, expected in zip(others, gradients, strict=True):
        require_same("gradient with NaN at weight 0", gradient, expected)
        require_same("gradient of what has weight 0", gradient[2], torch.zeros_like(gradient[2]))


@clause(precisions=PRECISIONS, of_the_call=True)
def all_weights_zero(case: Case, precision: Precision) -> None:
    """where everything has weight 0 the loss is 0, with zero gradient"""
    weight = case.weights(torch.zeros(SIZE, dtype=precision.dtype))
    value, gradients = case.run(case.batch(precision=precision), precision, weight=weight)
    for tensor in (value, *gradients):
        require_same("value and gradients", tensor, torch.zeros_like(tensor), 0)


@clause(of_the_call=True)
def halves_make_the_whole(case: Case) -> None:
    """with normalizer= two half batches give the value and gradient of the whole batch"""
    case.weights(torch.ones(SIZE, dtype=torch.float64))
    if case.kind in TOGETHER:
        raise NotApplicable("what lies across two halves is in neither")
    batch = case.batch()
    whole, gradients = case.run(batch)
    weight = case.loss.total(*batch).denominator
    halves = [case.run(rows_of(batch, rows), normalizer=weight) for rows in (slice(0, 3), slice(3, None))]
    require_same("sum over halves", halves[0][0] + halves[1][0], whole)
    for first, second, expected in zip(halves[0][1], halves[1][1], gradients, strict=True):
        require_same("gradients of halves", torch.cat([first, second]), expected)


@clause(precisions=HALVES)
def many_items(case: Case, precision: Precision) -> None:
    """a hundred thousand items in half precision do not overflow, nor does their count"""
    size = 64 if case.kind in TOGETHER else MANY  # whose pairs and triplets are many
    batch = case.batch(size, precision)
    value, gradients = case.run(batch, precision)
    require_finite(value, gradients)
    exact = case.loss(*(map_floating(part, lambda t: t.double()) for part in batch)).double()
    # as far off as a result in half precision may be by its own rounding
    if not torch.allclose(value.double(), exact, rtol=2e-2, atol=1e-4):
        raise Broken(f"{value.item()}, in float64 {exact.item()}")
