"""Clauses about what a weight and a normalizer mean."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.checking.case import (
    EXACT,
    HALVES,
    SINGLE,
    SIZE,
    TOGETHER,
    Broken,
    Case,
    NotApplicable,
    Precision,
    in_precision,
    leaves_of,
    on_samples,
    require_near,
    require_same,
    rows_of,
    several_blocks,
    without_item,
)
from losses.checking.clauses.derivatives import STEP
from losses.checking.contract import clause
from losses.core.checks import checks
from losses.core.errors import InputError
from losses.core.inputs import Batch

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""How far a result may be off by its own rounding, relative to the largest of its kind."""


NORMALIZERS = (3, 1e-6, torch.tensor(3), torch.tensor(0.5), torch.tensor(1e6, dtype=torch.float64))


class Outcome(NamedTuple):
    """Everything that a weighted call gives."""

    value: Tensor
    gradients: list[Tensor]
    sum: Tensor
    denominator: Tensor


def outcome(case: Case, batch: Batch, **options: Any) -> Outcome:
    value, gradients = case.run(batch, **options)
    total = case.loss.total(*batch, **options)
    return Outcome(value, gradients, total.sum.detach(), torch.as_tensor(total.denominator).detach())


def counts_of(case: Case) -> Tensor:
    """Return a weight for each sample that is a small integer, some of them 0."""
    return case.weights(torch.arange(SIZE) * 3 % 5)


def compared_apart(case: Case) -> tuple[Batch, dict[str, Any]]:
    """Return a batch of which every sample is compared with the same others, whatever else is in the batch.

    Raises:
        NotApplicable: samples are compared with one another, and the loss takes no reference.
    """
    if case.kind not in TOGETHER:
        return case.batch(), {}
    if not takes_reference(case):
        raise NotApplicable("samples are compared with one another, and it takes no reference")
    drawn = case.batch(2 * SIZE)
    # every other sample, so that batch and reference have classes in common even where they are drawn in order
    others = rows_of(drawn, slice(1, None, 2))
    return rows_of(drawn, slice(0, None, 2)), {"reference": (others.output.detach(), others.target)}


def takes_reference(case: Case) -> bool:
    return "reference" in case.kind.context and "reference" in inspect.signature(case.loss.forward).parameters


@clause(of_the_call=True)
def weight_counts_copies(case: Case) -> None:
    """a weight of k is k copies of the sample, in value, gradient and total; of anchors where samples are compared with
    a reference"""
    counts = counts_of(case)
    batch, context = compared_apart(case)
    rows = torch.arange(SIZE).repeat_interleave(counts)
    weighted = outcome(case, batch, weight=counts.double(), **context)
    copied = outcome(case, rows_of(batch, rows), **context)
    require_same("value", weighted.value, copied.value)
    require_same("sum", weighted.sum, copied.sum)
    require_same("denominator", weighted.denominator, copied.denominator)
    added = on_samples(
        batch, copied.gradients, lambda part: part.new_zeros(SIZE, *part.shape[1:]).index_add(0, rows, part)
    )
    for gradient, of_copies in zip(weighted.gradients, added, strict=True):
        require_same("gradient", gradient, of_copies)


@clause(of_the_call=True)
def weight_is_of_the_anchor(case: Case) -> None:
    """where samples are compared with one another, a weight for one alone gives what that anchor costs against all
    others"""
    if case.kind not in TOGETHER:
        raise NotApplicable("samples are not compared with one another")
    one_by_one = torch.eye(SIZE, dtype=torch.float64)
    case.weights(one_by_one[0])
    if takes_reference(case):
        for anchor in (0, SIZE // 2, SIZE - 1):
            against_others(case, anchor, one_by_one[anchor])
        return
    batch, loss = case.batch(), case.with_reduction("none")
    items = loss(*batch)
    for weight in one_by_one:
        alone = loss(*batch, weight=weight)
        if int((alone != 0).sum()) * SIZE > len(items):
            raise Broken(f"{int((alone != 0).sum())} of {len(items)} items weigh something where one of {SIZE} does")
        require_same("its items", alone, items.where(alone != 0, 0))


def against_others(case: Case, anchor: int, weight: Tensor) -> None:
    """Compare a batch in which one anchor weighs something with that anchor and the rest as its reference."""
    batch = case.batch()
    rest = torch.arange(SIZE) != anchor
    value, (gradient,) = case.run(batch, weight=weight)
    (leaf,), _ = leaves_of(batch.output)
    one = slice(anchor, anchor + 1)
    expected = case.loss(leaf[one], batch.target[one], reference=(leaf[rest], batch.target[rest]))
    require_same("value", value, expected)
    (right,) = torch.autograd.grad(expected, leaf, materialize_grads=True)
    require_same("gradient", gradient, right)


@clause(of_the_call=True)
def weights_add_up(case: Case) -> None:
    """weights may be of any size and follow their samples: two sets of them add up, in the sum, its gradient and the
    denominator, and their order is that of the batch"""
    batch = case.batch()
    first = case.weights(torch.logspace(-3, 6, SIZE, dtype=torch.float64))
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    second = first[order]
    summing = Case(case.with_reduction("sum"), case.kind)
    one, other, both = (outcome(summing, batch, weight=weight) for weight in (first, second, first + second))
    for part in ("value", "sum", "denominator"):
        require_same(part, getattr(both, part), getattr(one, part) + getattr(other, part))
    permuted = outcome(summing, rows_of(batch, order), weight=second)
    require_same("sum, permuted", permuted.sum, one.sum)
    require_same("denominator, permuted", permuted.denominator, one.denominator)
    for of_both, of_one, of_other in zip(both.gradients, one.gradients, other.gradients, strict=True):
        require_same("gradient", of_both, of_one + of_other)
    reordered = on_samples(batch, one.gradients, lambda part: part[order])
    for of_permuted, expected in zip(permuted.gradients, reordered, strict=True):
        require_same("gradient, permuted", of_permuted, expected)


@clause(of_the_call=True)
def weighted_definition_equals_fast_path(case: Case) -> None:
    """with weights too the total that is computed is the weighted sum over items, and so is its gradient: in one block,
    in several, and beside a reference"""
    batch = case.batch(2 * SIZE)
    weight = case.weights(torch.linspace(0, 3, 2 * SIZE, dtype=torch.float64))
    contexts: dict[str, dict[str, Any]] = {"": {}}
    if takes_reference(case):
        other = case.batch(SIZE, seed=1)
        contexts[" beside a reference"] = {"reference": (other.output.detach(), other.target)}
    for where, context in contexts.items():
        by_definition, expected = case.definition(batch, weight, **context)
        for blocks in (contextlib.nullcontext, several_blocks)[: 1 + (case.kind in TOGETHER)]:
            with blocks():
                total, gradients = case.total(batch, weight, **context)
            what = f"{where}{', in several blocks' if blocks is several_blocks else ''}"
            require_near(f"sum{what}", total.sum.sum(), by_definition.sum)
            if not torch.as_tensor(total.denominator).ndim:  # a sum of several means has several
                require_near(
                    f"denominator{what}", torch.as_tensor(total.denominator), torch.as_tensor(by_definition.denominator)
                )
            for gradient, right in zip(gradients, expected, strict=True):
                require_near(f"gradient{what}", gradient, right, 1e-7)


@clause(precisions=(SINGLE, *HALVES), of_the_call=True)
def scale_of_weights(case: Case, precision: Precision) -> None:
    """weights of 1e-30, 1e-6 and 1e6 times as much, or what half precision holds of that, give the same mean and
    gradient, and that many times the sum; so does a mixture of large, small and zero"""
    weight, batch = counts_of(case).float(), case.batch(precision=precision)  # and powers of 2: nothing is rounded
    tolerance = TOLERANCES[precision.dtype]
    value, gradients = case.run(batch, precision, weight=weight)
    for scale in (2.0**-100, 2.0**-20, 2.0**20) if precision is SINGLE else (2.0**-100, 2.0**20):
        scaled, of_scaled = case.run(batch, precision, weight=scale * weight)
        require_near(f"mean, weights times {scale:.1g}", scaled, value, 1e-5)
        for gradient, expected in zip(of_scaled, gradients, strict=True):
            require_near(f"gradient, weights times {scale:.1g}", gradient, expected, tolerance)
        if precision is SINGLE:
            sums, total = (case.loss.total(*batch, weight=part).sum for part in (scale * weight, weight))
            require_near(f"sum, weights times {scale:.1g}", sums.double() / scale, total, 1e-5)
    for scale in (2.0**-10, 2.0**10) if precision in HALVES else ():
        scaled, _ = case.run(batch, precision, weight=(scale * weight).to(precision.dtype))
        require_near(f"mean, weights in half precision times {scale:.1g}", scaled, value, 1e-5)
    mixed = torch.tensor([1e6, 0, 1e-6, 1, 1e3])[torch.arange(SIZE) % 5]
    exact, of_exact = case.run(in_precision(batch, EXACT), weight=mixed.double())
    got, of_got = case.run(batch, precision, weight=mixed)
    require_near("mean, mixed weights", got, exact, 1e-5)
    for gradient, expected in zip(of_got, of_exact, strict=True):
        require_near("gradient, mixed weights", gradient, expected, tolerance)


@clause(of_the_call=True)
def weights_of_every_form(case: Case) -> None:
    """a weight covers the items or their leading dimensions, and its dtype, bool and integers included, changes neither
    the result nor its dtype; one item of weight 0 may be NaN"""
    counts = counts_of(case)
    for precision, dtypes in {
        EXACT: (torch.float32, torch.float16, torch.int64, torch.uint8),
        SINGLE: (torch.float64, torch.int64),
        **{half: (torch.float64, half.dtype) for half in HALVES},
    }.items():
        batch = case.batch(precision=precision)
        value, gradients = case.run(batch, weight=counts.to(torch.promote_types(precision.dtype, torch.float32)))
        for dtype in dtypes:
            got, of_got = case.run(batch, weight=counts.to(dtype))
            if got.dtype is not value.dtype:
                raise Broken(f"weights of {dtype} make a result of {got.dtype}")
            for what, one, other in (("value", got, value), *zip_named(of_got, gradients)):
                require_near(f"{what}, weights of {dtype}", one, other, TOLERANCES[precision.dtype])
    batch, kept = case.batch(), counts > 0
    require_same("weights of bool", case.loss(*batch, weight=kept), case.loss(*batch, weight=kept.double()))
    if case.kind not in TOGETHER:
        weights_of_items(case)


def zip_named(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    return [("gradient", one, other) for one, other in zip(first, second, strict=True)]


def weights_of_items(case: Case) -> None:
    """Compare weights of as many dimensions as the items have with the definition, also where one weighs nothing."""
    batch = case.batch()
    leaves, rebuild = leaves_of(batch.output)
    accepted = case.kind.accept(case.loss, rebuild(leaves), batch.target)
    items = case.loss.items(*accepted)
    counted = case.loss.denominators(items, *accepted)
    counted = torch.ones_like(items) if counted is None else counted
    of_many_means = bool(torch.as_tensor(case.loss.total(*batch).denominator).ndim)
    for dimensions in range(1, items.ndim + 1):
        shape = items.shape[:dimensions]
        weight = (torch.arange(math.prod(shape)) * 3 % 5).reshape(shape).double()
        over_items = weight.reshape(*shape, *[1] * (items.ndim - dimensions)).expand(items.shape)
        weighted = case.with_reduction("none")(*batch, weight=weight)
        require_same(f"items, weights {tuple(shape)}", weighted, over_items * items)
        if of_many_means:
            continue
        value, gradients = case.run(batch, weight=weight)
        expected = (over_items * items).sum() / (over_items * counted).sum()
        require_same(f"mean, weights {tuple(shape)}", value, expected)
        of_expected = torch.autograd.grad(expected, leaves, retain_graph=True, materialize_grads=True)
        for gradient, right in zip(gradients, of_expected, strict=True):
            require_same(f"gradient, weights {tuple(shape)}", gradient, right)
    weight = torch.ones(items.shape, dtype=torch.float64)
    weight.view(-1)[1] = 0
    value, gradients = case.run(batch, weight=weight)
    other, others = case.run(without_item(batch, items, 1, leaves), weight=weight)
    for what, one, two in (("value", other, value), *zip_named(others, gradients)):
        require_same(f"{what} with NaN in one item of weight 0", one, two)


@clause(of_the_call=True, scope="each kind")
def normalizer_replaces_the_denominator(case: Case) -> None:
    """with normalizer= the value is the weighted sum divided by it, be it a number or a tensor of any dtype, and so is
    the gradient; weights do not change it"""
    batch = case.batch()
    summing = Case(case.with_reduction("sum"), case.kind)
    averaging = Case(case.with_reduction("mean"), case.kind)
    options: list[dict[str, Any]] = [{}]
    with contextlib.suppress(NotApplicable):
        options.append({"weight": counts_of(case).double()})
    for weight in options:
        total, gradients = summing.run(batch, **weight)
        for normalizer in NORMALIZERS:
            number = float(normalizer)
            value, of_value = averaging.run(batch, normalizer=normalizer, **weight)
            require_near(f"normalizer={normalizer!r}", value, total / number, 1e-9)
            for gradient, expected in zip(of_value, gradients, strict=True):
                require_near(f"gradient, normalizer={normalizer!r}", gradient, expected / number, 1e-9)


@clause(of_the_call=True)
def derivative_by_weights(case: Case) -> None:
    """gradients with respect to weights and normalizer are those of sum(w l) / sum(w), and asking for them changes
    neither value nor gradient"""
    weight = case.weights(torch.linspace(0.5, 3, SIZE, dtype=torch.float64))
    batch = case.batch()
    value, gradients = case.run(batch, weight=weight)
    leaf = weight.clone().requires_grad_()
    other, others = case.run(batch, weight=leaf)
    for what, one, two in (("value", other, value), *zip_named(others, gradients)):
        require_same(f"{what} with weights that require grad", one, two)
    total = case.loss.total(*batch, weight=weight)
    normalizer = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    of_mean = gradient_by(leaf, case.loss(*batch, weight=leaf), "weights")
    normalized = case.with_reduction("mean")(*batch, weight=leaf, normalizer=normalizer)
    of_normalizer = gradient_by(normalizer, normalized, "normalizer")
    require_same("gradient by the normalizer", of_normalizer, -total.sum.sum() / 9)
    denominator = torch.as_tensor(total.denominator)
    empty = denominator == 0  # of several means one may be over nothing
    denominator = denominator.masked_fill(empty, 1)
    mean = total.sum / denominator
    for direction in (torch.eye(SIZE, dtype=torch.float64)[1], torch.linspace(2, 1, SIZE, dtype=torch.float64)):
        along = case.loss.total(*batch, weight=direction)  # both parts are linear in the weights
        expected = ((along.sum - mean * along.denominator) / denominator).masked_fill(empty, 0).sum()
        require_same("gradient by the weights", (of_mean * direction).sum(), expected)


def gradient_by(leaf: Tensor, value: Tensor, name: str) -> Tensor:
    if not value.requires_grad:
        raise Broken("the result has no graph")
    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise Broken(f"the {name} get no gradient")
    return gradient


@clause(of_the_call=True)
def derivatives_with_weights(case: Case) -> None:
    """with weights too, first and second derivatives along a line equal finite differences"""
    if {"first_derivative", "second_derivative"} & set(getattr(case.loss, "exemptions", {})):
        raise NotApplicable("without weights neither do they, as it declares")
    weight = counts_of(case).double()
    batch = case.batch()
    leaves, rebuild = leaves_of(batch.output)
    generator = torch.Generator().manual_seed(17)  # not that of the batch
    ways = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]

    def along(step: float, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """Return the value a step away, and its derivative along the way."""
        moved = leaves if create_graph else [leaf.detach() + step * way for leaf, way in zip(leaves, ways, strict=True)]
        moved = [leaf.requires_grad_() for leaf in moved]
        value = case.loss(rebuild(moved), batch.target, weight=weight).sum()
        gradients = torch.autograd.grad(value, moved, create_graph=create_graph, materialize_grads=True)
        return value, torch.stack([(part * way).sum() for part, way in zip(gradients, ways, strict=True)]).sum()

    with checks("never"):  # a step leaves the simplex that probabilities are checked to lie in
        _, first = along(0, create_graph=True)
        before, after = along(-STEP), along(STEP)
        require_same("first derivative", first, (after[0] - before[0]).detach() / (2 * STEP), 1e-5)
        second = torch.zeros_like(first)
        if first.requires_grad:
            curved = torch.autograd.grad(first, leaves, materialize_grads=True)
            second = torch.stack([(part * way).sum() for part, way in zip(curved, ways, strict=True)]).sum()
        require_same("second derivative", second, (after[1] - before[1]).detach() / (2 * STEP), 1e-5)


@clause(of_the_call=True, scope="each kind")
def bad_normalizers_are_refused(case: Case) -> None:
    """a normalizer that is negative, NaN, infinite, no number or beside reduction="sum" raises an InputError"""
    batch = case.batch()
    tensors = [torch.tensor(number, dtype=torch.float64) for number in (-1.0, math.nan)]
    for normalizer in (-1, math.nan, math.inf, "8", True, torch.tensor(1j), torch.ones(SIZE + 1), *tensors):
        with refused(f"normalizer={normalizer!r}"):
            case.with_reduction("mean")(*batch, normalizer=normalizer)
    with refused('a normalizer beside reduction="sum"'):
        case.with_reduction("sum")(*batch, normalizer=2)


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Raise :class:`Broken` unless an InputError is raised within."""
    try:
        yield
    except InputError:
        return
    raise Broken(f"{what} is accepted")


@clause(of_the_call=True, scope="each kind")
def compiles_with_weights(case: Case) -> None:
    """torch.compile(fullgraph=True) gives the value and gradient of eager mode with weights too"""
    torch.compiler.reset()
    weight, batch = counts_of(case).float(), case.batch(precision=SINGLE)
    compiled = Case(torch.compile(case.loss, fullgraph=True, backend="aot_eager", dynamic=False), case.kind)
    value, gradients = case.run(batch, weight=weight)
    other, others = compiled.run(batch, weight=weight)
    for what, one, two in (("value", other, value), *zip_named(others, gradients)):
        require_same(f"{what}, compiled", one, two, 1e-5)
