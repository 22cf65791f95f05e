"""Clauses about the edges of a loss's domain: value and gradient are finite there, in every precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from losses.checking.case import (
    EXACT,
    LARGE,
    PRECISIONS,
    SINGLE,
    TOGETHER,
    Broken,
    Case,
    NotApplicable,
    Precision,
    gradients_of_samples,
    in_precision,
    on_samples,
    require_finite,
    require_same,
    rows_of,
    several_blocks,
)
from losses.checking.contract import clause
from losses.core.errors import InputError
from losses.core.inputs import POINTWISE, TRANSPORT, Batch
from losses.core.inputs.kind import TIES
from losses.core.inputs.predictions import Pointwise
from losses.core.outputs import map_floating, tensors_in

EDGES = {
    "equal_points": "where points are equal, value and gradient are finite",
    "near_duplicates": "where points are 1e-4 apart, value and gradient are finite",
    "zero_vectors": "at vectors of zeros, value and gradient are finite",
    "extreme_values": "at logits, scores, predictions or samples of +-1e4, value and gradient are finite, unless the "
    "loss itself exceeds every number on the way there, or a result what its dtype can hold",
    "infinite_logits": "where logits of -inf say that an outcome is impossible, value and gradient are finite",
    "one_hot_and_disjoint": "at one-hot and disjoint distributions, value and gradient are finite",
    "extreme_log_variance": "at a log-variance of +-1e4, value and gradient are finite",
    "one_class": "where all labels are equal, value and gradient are finite",
    "every_label_different": "where all labels differ, value and gradient are finite",
}


def finite_at(edge: str) -> Callable[[Case, Precision], None]:
    """Return the check of one edge."""

    def check(case: Case, precision: Precision) -> None:
        batches, drawn = case.edge(edge, precision), case.edge(edge)
        for number, batch in enumerate(batches, 1):
            which = f", at output {numbers_of(batch.output)}" if len(batches) > 1 else ""
            try:
                require_finite(*case.run(batch, precision))
            except Broken as seen:
                if edge == "extreme_values" and (
                    exceeds_any_number(case, drawn[number - 1]) or exceeds_its_dtype(case, batch, precision)
                ):
                    continue
                raise Broken(f"{seen}, batch {number} of {len(batches)}{which}") from None

    return check


def exceeds_any_number(case: Case, batch: Batch) -> bool:
    """Return whether a loss grows on the way to an edge so that it must be infinite there, as that of a count by its
    logarithm does."""

    def at(part: float, *, of_both: bool) -> float:
        output, target = (map_floating(each, partial(torch.mul, other=part)) for each in batch)
        return abs(float(case.loss(output, target if of_both else batch.target).detach().sum()))

    # a residual stays as large as its target while the prediction alone becomes smaller
    ways = (False, True)[: 1 + isinstance(case.kind, Pointwise)]
    near = [at(part, of_both=of_both) for part in (0.01, 0.03, 0.05) for of_both in ways]
    return any(1e100 < value < math.inf for value in near) or (
        torch.finfo(torch.float32).max < at(1.0, of_both=False) < math.inf
    )


def exceeds_its_dtype(case: Case, batch: Batch, precision: Precision) -> bool:
    """Return whether everything that is infinite at an edge is larger than its dtype can hold, as the gradient of a
    cube is in float16."""
    exact, exact_gradients = case.run(in_precision(batch, EXACT))
    value, gradients = case.run(batch, precision)
    for got, right in zip((value, *gradients), (exact, *exact_gradients), strict=True):
        too_large = right.isfinite() & (right.abs() > torch.finfo(got.dtype).max) & (got.double() == right * torch.inf)
        if not bool((got.isfinite() | too_large).all()):
            return False
    return True


def numbers_of(output: Any) -> str:
    """Return the first numbers of every tensor of an output."""
    return "; ".join(", ".join(f"{x:g}" for x in part.flatten()[:4].tolist()) for part in tensors_in(output))


for _edge, _promise in EDGES.items():
    clause(precisions=PRECISIONS, name=_edge, promise=_promise)(finite_at(_edge))


@clause(precisions=PRECISIONS)
def empty_batch(case: Case, precision: Precision) -> None:
    """an empty batch costs 0, with a graph and zero gradient"""
    value, gradients = case.run(case.batch(0, precision), precision)
    for tensor in (value, *gradients):
        require_same("value and gradients", tensor, torch.zeros_like(tensor), 0)


@clause(precisions=PRECISIONS)
def one_item(case: Case, precision: Precision) -> None:
    """a batch of one has a finite value and gradient"""
    require_finite(*case.run(case.batch(1, precision), precision))


@clause(precisions=PRECISIONS)
def everything_ignored(case: Case, precision: Precision) -> None:
    """where every target is ignored the loss is 0, with zero gradient"""
    for batch in case.edge("everything_ignored", precision):
        value, gradients = case.run(batch, precision)
        for tensor in (value, *gradients):
            require_same("value and gradients", tensor, torch.zeros_like(tensor), 0)


@clause()
def ignored_targets_do_not_count(case: Case) -> None:
    """a batch with an ignored target has the value and gradient of the batch without it"""
    batch = case.batch()
    if (
        getattr(case.loss, "ignore_index", None) is None
        or not isinstance(batch.target, torch.Tensor)
        or batch.target.dtype.is_floating_point
    ):
        raise NotApplicable("it ignores no target")
    kept = torch.arange(len(batch.target)) != 2
    target = batch.target.where(kept, case.loss.ignore_index)
    value, gradients = case.run(Batch(batch.output, target))
    expected, others = case.run(rows_of(batch, kept))
    require_same("value", value, expected)
    for gradient, other in zip(on_samples(batch, gradients, lambda part: part[kept]), others, strict=True):
        require_same("gradient of what counts", gradient, other)
    for gradient in gradients_of_samples(batch, gradients):
        require_same("gradient of what is ignored", gradient[2], torch.zeros_like(gradient[2]))


@clause()
def zero_histogram_is_refused(case: Case) -> None:
    """a histogram without any probability raises an InputError"""
    if case.kind is not TRANSPORT or getattr(case.loss, "form", "") != "probs":
        raise NotApplicable("it takes no histograms of probabilities")
    batch = case.batch()
    try:
        case.loss(map_floating(batch.output, torch.zeros_like), batch.target)
    except InputError:
        return
    raise Broken("it was accepted")


@clause(precisions=PRECISIONS[1:])
def rounding(case: Case, precision: Precision) -> None:
    """value and gradient are as exact as their dtype allows: no farther from the exact ones than those rounded to it,
    for numbers of any size, in one block and in several"""
    many = {f"{LARGE} samples": case.batch(LARGE)} if precision is SINGLE and case.kind not in TOGETHER else {}
    for name, drawn in {**case.regimes(), **many}.items():
        batch = in_precision(drawn, precision)
        exact, exact_gradients = case.run(type(batch)(*(map_floating(part, lambda t: t.double()) for part in batch)))
        for blocks in (contextlib.nullcontext, several_blocks)[: 1 + (case.kind in TOGETHER)]:
            with blocks():
                value, gradients = case.run(batch, precision)
            lost = 2e-7 if case.kind is POINTWISE else 1e-6  # a few roundings of 1; more where an item is a sum
            require_rounded(f"value with {name}", value, exact, precision, lost)
            for gradient, right in zip(gradients, exact_gradients, strict=True):
                if name not in TIES:
                    require_rounded(f"gradient with {name}", gradient, right, precision, lost)


def require_rounded(what: str, got: torch.Tensor, right: torch.Tensor, precision: Precision, lost: float) -> None:
    """Raise :class:`Broken` where a result is farther off than its rounding to a precision and to float32, and than
    what is lost where large numbers cancel."""
    honest = right.to(precision.dtype).double()  # nothing that ends in this dtype can be nearer
    if not bool(honest.isfinite().all()):
        return  # what a dtype cannot hold is a matter of the edges
    allowed = (honest - right).abs() + 1e-5 * right.abs().max() + lost
    error = (got.double() - right).abs()
    if bool((error > allowed).any()):
        raise Broken(f"{what}: off by {error.max().item():.3g}, allowed are {allowed.max().item():.3g}")


@clause(precisions=PRECISIONS[2:])
def half_precision_accumulates_in_float32(case: Case, precision: Precision) -> None:
    """half precision, and all under autocast, is reduced in float32; gradients come in the dtype of the input"""
    batch = case.batch(precision=precision)
    value, gradients = case.run(batch, precision)
    if value.dtype is not torch.float32:
        raise Broken(f"the value is {value.dtype}")
    for gradient in gradients:
        if gradient.dtype is not precision.dtype:
            raise Broken(f"a gradient is {gradient.dtype}")
