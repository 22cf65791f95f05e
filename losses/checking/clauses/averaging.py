"""Clauses about the averaging convention: weights, reductions, normalizer."""

from __future__ import annotations

import contextlib
import math
from functools import reduce
from operator import add

import torch
from torch import Tensor

from losses.checking.case import (
    HALVES,
    PRECISIONS,
    SINGLE,
    SIZE,
    TOGETHER,
    Broken,
    Case,
    NotApplicable,
    Precision,
    from_parts,
    gradients_of,
    gradients_of_samples,
    in_precision,
    leaves_of,
    require_finite,
    require_same,
    rows_of,
)
from losses.checking.contract import clause
from losses.core.errors import InputError
from losses.core.inputs import CLASS_INDICES, LOGITS, Batch
from losses.core.outputs import map_samples, tensors_in

MANY, MANY_PAIRS, MANY_TRIPLETS = 66_000, 368, 128
"""Samples, or samples with so many pairs or triplets, that float16 cannot count them: it ends at 65,504."""
PART = 10_000


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
    poisoned = Batch(*(map_samples(part, with_missing) for part in batch))
    value, gradients = case.run(batch, weight=weight)
    other, others = case.run(poisoned, weight=weight)
    require_same("value with NaN at weight 0", other, value)
    without = torch.arange(SIZE)[weight > 0]
    require_same("value without it", case.loss(*rows_of(batch, without)), value)
    for gradient, expected in zip(others, gradients, strict=True):
        require_same("gradient with NaN at weight 0", gradient, expected)
    for gradient in gradients_of_samples(batch, others):
        require_same("gradient of what has weight 0", gradient[2], torch.zeros_like(gradient[2]))


def with_missing(tensor: Tensor) -> Tensor:
    """Return a tensor of real numbers with NaN as one of its samples."""
    return tensor.detach().index_fill(0, torch.tensor([2]), math.nan) if tensor.dtype.is_floating_point else tensor


@clause(of_the_call=True)
def items_are_of_samples(case: Case) -> None:
    """with reduction "none" items begin with the samples, one sample alone has the items that it has among others, and
    where there are positions mean and total are still those of the definition, ignored ones or not"""
    case.weights(torch.ones(SIZE, dtype=torch.float64))
    if case.kind in TOGETHER:
        raise NotApplicable("its items are made from the whole batch")
    for name, batch in {"usual": case.batch(), **positions_of(case)}.items():
        items, samples = case.with_reduction("none")(*batch), tensors_in(batch.output)[0].shape[0]
        if not items.ndim or items.shape[0] != samples:
            raise Broken(f"{name}: {samples} samples have items of shape {tuple(items.shape)}")
        alone = case.with_reduction("none")(*rows_of(batch, slice(0, 1)))
        require_same(f"{name}: items of one sample alone", alone, items[:1])
        if name == "usual":
            continue  # another clause looks at its mean
        by_definition, _ = case.definition(batch)
        require_same(f"{name}: mean", case.with_reduction("mean")(*batch), by_definition.mean())
        require_same(f"{name}: mean of the total", case.loss.total(*batch).mean(), by_definition.mean())


def positions_of(case: Case) -> dict[str, Batch]:
    """Return class indices at several positions of a sample, some ignored, where a loss takes them."""
    if case.kind not in (LOGITS, CLASS_INDICES):
        return {}
    logits, indices = case.batch()
    half = len(indices) // 2
    batch = Batch(logits.detach().reshape(2, half, -1).movedim(-1, 1).requires_grad_(), indices.reshape(2, half))
    try:
        case.loss(*batch)
    except InputError:
        return {}
    if getattr(case.loss, "ignore_index", None) is None:
        return {"positions": batch}
    ignored = batch.target.clone()
    ignored[0, : half - 1] = case.loss.ignore_index
    return {"positions": batch, "positions, some ignored": Batch(batch.output, ignored)}


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
    for of_halves, expected in zip(from_parts(batch, [of_half for _, of_half in halves]), gradients, strict=True):
        require_same("gradients of halves", of_halves, expected)


@clause(precisions=HALVES)
def many_items(case: Case, precision: Precision) -> None:
    """66,000 items or pairs, which is more than float16 can count, do not overflow in half precision, nor does their
    number, in value and gradient"""
    together = case.kind in TOGETHER
    size = MANY
    if together:
        size = MANY_PAIRS if case.keeps_the_call and precision.dtype is torch.float16 else MANY_TRIPLETS
    batch = case.batch(size, precision)
    single = in_precision(batch, SINGLE)
    value, gradients = case.run(batch, precision)
    require_finite(value, gradients)
    if case.keeps_the_call:
        total = case.loss.total(*batch)
        require_finite(total.sum, [])
        require_finite(torch.as_tensor(total.denominator), [])
    exact, right = in_parts(case, single) if adds_up(case) else case.run(single)
    # as far off as a result in half precision may be by its own rounding
    if not torch.allclose(value.double(), exact.double(), rtol=2e-2, atol=1e-4):
        raise Broken(f"{value.item()}, exactly {exact.item()}")
    smallest = torch.finfo(precision.dtype).smallest_normal * torch.finfo(precision.dtype).eps
    for gradient, expected in zip(gradients, right, strict=True):
        error = (gradient.double() - expected.double()).norm()
        if error > 0.3 * expected.double().norm() + smallest * math.sqrt(gradient.numel()):
            raise Broken(f"the gradient is off by {error.item():.3g}, its norm is {expected.norm().item():.3g}")


def adds_up(case: Case) -> bool:
    """Return whether the totals of parts of a batch add up to that of the whole."""
    if not case.keeps_the_call or case.kind in TOGETHER:
        return False
    with contextlib.suppress(NotApplicable):
        case.weights(torch.ones(SIZE, dtype=torch.float64))
        return True
    return False


def in_parts(case: Case, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return value and gradients of a batch from the totals of its parts, each of which float16 could count."""
    size = len(tensors_in(batch.output)[0])
    parts = [rows_of(batch, slice(start, start + PART)) for start in range(0, size, PART)]
    split = [leaves_of(part.output) for part in parts]
    totals = (
        case.loss.total(rebuild(leaves), part.target) for part, (leaves, rebuild) in zip(parts, split, strict=True)
    )
    value = reduce(add, totals).mean()
    gradients = iter(gradients_of(value, [leaf for leaves, _ in split for leaf in leaves]))
    return value, from_parts(batch, [[next(gradients) for _ in leaves] for leaves, _ in split])
