"""Clauses about forms: one batch in other shapes, dtypes, numbers and containers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from losses.checking.case import EXACT, Broken, Case, NotApplicable, in_precision, require_same
from losses.checking.contract import clause
from losses.core.checks import shown
from losses.core.errors import InputError
from losses.core.inputs import Batch
from losses.core.inputs.generative import VAE
from losses.core.inputs.kind import FLOATS, Form
from losses.core.inputs.predictions import Pointwise, Scores
from losses.core.laws import changed
from losses.core.outputs import map_floating, tensors_in
from losses.core.parameters import declared_parameters
from losses.core.precision import widened

OF_ENTRIES = (Pointwise, Scores)
"""Kinds of input whose items may be entries or whole rows, as the loss says."""
REDUCTIONS = ("mean", "sum", "none")
ROUGHLY = 2e-2
"""How far a value may be off that was computed from half precision, of the largest one."""


@clause()
def shapes_agree(case: Case) -> None:
    """the same items in another shape that the kind of input takes have the same value and gradient, in every
    reduction"""
    batch, compared = case.batch(), 0
    for name, forms in case.kind.shapes(case.loss, batch).items():
        alike = with_the_same_items(case, forms)
        compared += agree(case, name, alike, batch, refusals_of_shapes(case))
    if not compared:
        raise NotApplicable(f"it takes {case.kind} in one shape, or an item of it is made of more than one sample")


@clause()
def encodings_agree(case: Case) -> None:
    """what says the same in another dtype, number, form or container has the same value and gradient, in every
    reduction"""
    batch, compared = case.batch(), 0
    for name, forms in case.kind.encodings(case.loss, batch).items():
        if case.keeps_the_call:
            compared += agree(case, name, forms, batch)
        else:
            compared += agree(case, name, in_the_same_numbers(case.loss, forms), batch, (Exception,))
    if not compared:
        raise NotApplicable(f"it takes {case.kind} in one form")


@clause()
def close_targets_differ(case: Case) -> None:
    """a target counts with all its digits: it is neither rounded nor taken for the largest class"""
    batches = [batch for batch in case.kind.close_targets(case.loss, case.batch()) if accepted(case, case.loss, batch)]
    if len(batches) < 2:
        raise NotApplicable(f"a target of {case.kind} is a label, or another part of the output")
    try:
        (value, gradients), (other, others) = (case.run(batch) for batch in batches)
    except Exception as error:
        if case.keeps_the_call:
            raise
        raise NotApplicable(f"it takes no such target: {type(error).__name__}") from None
    pairs = zip((value, *gradients), (other, *others), strict=True)
    if all(torch.allclose(one, two, rtol=1e-9, atol=1e-12) for one, two in pairs):
        raise Broken(f"targets that differ a little, {shown(batches[0].target)}, have the same value and gradient")


@clause(of_the_call=True)
def precisions_mix(case: Case) -> None:
    """where output and target differ in precision, the result is that of the numbers they hold, in the precision of the
    output"""
    batch = in_precision(Batch(*(map_floating(part, rounded) for part in case.batch())), EXACT)
    value, gradients = case.run(batch)
    expected = [value, *gradients]
    mixed = {name: other for name, other in mixtures(batch).items() if accepted(case, case.loss, other)}
    if not mixed:
        raise NotApplicable("it takes its tensors in one precision")
    for name, other in mixed.items():
        value, gradients = case.run(other)
        parts = tensors_in(other.output)
        if value.dtype is not widened(parts[0]).dtype:
            raise Broken(f"{name}: the value is {value.dtype}")
        exact = all(part.dtype is torch.float64 for part in parts)
        for what, got, right in zip(parts_of(expected), [value, *gradients], expected, strict=True):
            require_near(f"{what}, {name}", got, right, 1e-9 if exact else ROUGHLY)


def rounded(tensor: Tensor) -> Tensor:
    """Return numbers that the narrowest dtype can say."""
    return tensor.detach().to(torch.bfloat16)


def mixtures(batch: Batch) -> dict[str, Batch]:
    """Return a batch of float64 with some of its tensors in other dtypes that can say their numbers, by name."""
    output, target = batch
    last = tensors_in(output)[-1]
    mixed = {}
    for dtype in FLOATS[1:]:

        def cast(tensor: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            return tensor.detach().to(dtype)

        def last_alone(tensor: Tensor, cast: Any = cast) -> Tensor:
            return cast(tensor) if tensor is last else tensor

        mixed[f"{dtype} target"] = Batch(output, map_floating(target, cast))
        if tensors_in(target):
            mixed[f"{dtype} output"] = Batch(map_floating(output, cast), target)
        if last is not output:
            mixed[f"{dtype} in the last part"] = Batch(map_floating(output, last_alone), target)
    return {name: other for name, other in mixed.items() if holds_the_same(batch, other)}


def holds_the_same(batch: Batch, other: Batch) -> bool:
    """Return whether two batches hold the same numbers, in dtypes that are not all the same."""
    one, two = (tensors_in(each.output) + tensors_in(each.target) for each in (batch, other))
    pairs = list(zip(one, two, strict=True))
    return any(mine.dtype is not yours.dtype for mine, yours in pairs) and all(
        torch.equal(mine.double(), yours.double()) for mine, yours in pairs
    )


def require_near(what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise :class:`Broken` where two results are apart by more than a fraction of the largest number."""
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    if tolerance < ROUGHLY:
        require_same(what, got, expected, tolerance)
    elif not bool(((got.double() - expected).abs() <= tolerance * max(largest, 1e-3)).all()):
        require_same(what, got, expected, 0)


def with_the_same_items(case: Case, forms: Sequence[Form]) -> list[Form]:
    """Return the shapes of a batch of which a loss makes the same number of items, each from one sample or entry.

    A module that does not say its items is asked whether its value is the mean or sum over rows and over columns.
    """
    batch = forms[0].batch
    try:
        items, first = items_of(case, batch), tensors_in(batch.output)[0]
    except Exception:  # it cannot be compared with what is refused
        return []
    if items is None:
        return list(forms) if is_of_equals(case, batch) else []
    if items.numel() < (len(first) if first.ndim else 1):
        return []
    if items.ndim > 1 and items.shape == first.shape and not is_of_entries(case, batch, items):
        return []
    return [form for form in forms if number_of_items(case, form.batch) in (None, items.numel())]


def number_of_items(case: Case, batch: Batch) -> int | None:
    """Return how many items a loss makes of a batch, ``None`` where it refuses the batch."""
    try:
        items = items_of(case, batch)
    except Exception:
        return None
    return None if items is None else items.numel()


def is_of_entries(case: Case, batch: Batch, items: Tensor) -> bool:
    """Return whether an item ``(N, D)`` takes no notice of what lies beside it in its row."""
    try:
        alone = items_of(case, Batch(*(part[:, 1:2] for part in batch)))
    except Exception:
        return False
    return alone is not None and alone.shape == items[:, 1:2].shape and torch.allclose(alone, items[:, 1:2])


def refusals_of_shapes(case: Case) -> tuple[type[Exception], ...]:
    """Return the errors by which a loss may say that it does not take a shape.

    With whole rows as items, with entries that mind their place, or with numbers for each entry of a dimension, it may
    take no other shape; else it has to say so in the words of an InputError.
    """
    batch = case.batch()
    items, first = items_of(case, batch), tensors_in(batch.output)[0]
    in_its_place = items is not None and (items.shape != first.shape or not is_of_entries(case, batch, items))
    bound = isinstance(case.kind, (*OF_ENTRIES, VAE)) and in_its_place
    return (Exception,) if bound or not case.keeps_the_call or tied_to_a_dimension(case.loss) else (InputError,)


def items_of(case: Case, batch: Batch) -> Tensor | None:
    """Return what a loss makes of each item, or ``None`` if it does not say."""
    if getattr(case.loss, "reduction", None) not in REDUCTIONS:
        return None
    items: Tensor = case.with_reduction("none")(*batch)
    return items


def is_of_equals(case: Case, batch: Batch) -> bool:
    """Return whether the value of a batch ``(N, D)`` is the mean, or the sum, of its rows' values and its columns'."""
    if not isinstance(case.kind, OF_ENTRIES) or tensors_in(batch.output)[0].ndim != 2:
        return False
    rows, columns = (
        [Batch(*(part.narrow(dim, index, 1) for part in batch)) for index in range(batch.output.shape[dim])]
        for dim in (0, 1)
    )
    try:
        whole = case.loss(*batch)
        of_rows, of_columns = (torch.stack([case.loss(*part) for part in parts]) for parts in (rows, columns))
    except Exception:
        return False
    ways = [(of_rows.mean(), of_columns.mean()), (of_rows.sum(), of_columns.sum())]
    return whole.ndim == 0 and any(torch.allclose(whole, one) and torch.allclose(whole, other) for one, other in ways)


def tied_to_a_dimension(loss: nn.Module) -> bool:
    """Return whether a loss has numbers for each entry of a dimension, so that it may refuse other shapes."""
    own = [getattr(loss, name, None) for name in declared_names(loss)] + [*loss.buffers(), *loss.parameters()]
    return any(isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim > 0) for value in own)


def declared_names(loss: nn.Module) -> list[str]:
    return [parameter.name for parameter in declared_parameters(type(loss).__init__)] if hasattr(loss, "spec") else []


def in_the_same_numbers(loss: nn.Module, forms: Sequence[Form]) -> list[Form]:
    """Return the forms whose targets are the first in another shape, or in integers.

    A module without this package's call has its own numbers for yes and no, and may compute in the precision of its
    target. If it has numbers for each class, what it divides by may depend on how classes are said.
    """
    target = forms[0].batch.target

    def may_differ(other: Any) -> bool:
        if not isinstance(other, Tensor) or other is target:
            return True
        if other.shape != target.shape:
            return not tied_to_a_dimension(loss)
        return not other.dtype.is_floating_point and bool((other == target).all())

    return [form for form in forms if may_differ(form.batch.target)]


def accepted(case: Case, loss: Any, batch: Batch) -> bool:
    """Return whether the kind of input takes a batch."""
    try:
        case.kind.accept(loss, *batch)
    except InputError:
        return False
    return True


def agree(
    case: Case, name: str, forms: Sequence[Form], batch: Batch, refusals: tuple[type[Exception], ...] = ()
) -> bool:
    """Raise :class:`Broken` unless all forms cost the same, with the same gradient at the batch's output.

    Args:
        case: a loss on a kind of input.
        name: what the forms have in common.
        forms: what to compare, each with the first.
        batch: what the forms are made from.
        refusals: errors by which a loss may say that it does not take a form.

    Returns:
        Whether two forms were compared.
    """
    # the definition and whatever is faster; a target of another dtype meets the sum on its way to the mean
    reductions = REDUCTIONS if forms and forms[-1].batch.output is not forms[0].batch.output else ("mean", "none")
    compared: list[dict[str, list[Tensor]]] = []
    for form in forms:
        loss = read_with(case.loss, form.parameters)
        if loss is None or not accepted(case, loss, form.batch):
            continue
        where = f"{name}, {shown(form.batch.output)} against {shown(form.batch.target)}"
        try:
            results = in_reductions(case, loss, form.batch, tensors_in(batch.output), reductions)
        except refusals:
            continue
        except Exception as error:
            raise Broken(f"{where}: {type(error).__name__}: {error}") from None
        for reduction, expected in compared[0].items() if compared else ():
            for what, got, right in zip(parts_of(expected), results[reduction], expected, strict=True):
                require_same(f"{what} of {where}, {reduction}", got, right)
        compared.append(results)
    return len(compared) > 1


def parts_of(result: Sequence[Tensor]) -> list[str]:
    return ["value", *["gradient"] * (len(result) - 1)]


def read_with(loss: Any, parameters: Mapping[str, Any]) -> Any:
    """Return the loss that reads a form, or ``None`` if it has no parameter to be told the form by."""
    if not set(parameters) <= set(declared_names(loss)):
        return None
    return changed(loss, **parameters) if parameters else loss


def in_reductions(
    case: Case, loss: Any, batch: Batch, leaves: Sequence[Tensor], reductions: Sequence[str]
) -> dict[str, list[Tensor]]:
    """Return value and gradients in each reduction; of items, which may come in another order, in ascending order with
    the gradients of the sum of their squares."""
    if not case.keeps_the_call:
        value = loss(*batch)
        return {"the value": [value, *slopes(value.sum(), leaves)]}
    results = {}
    for reduction in reductions:
        other = copy.deepcopy(loss)
        other.reduction = reduction
        value = other(*batch)
        items = reduction == "none"
        results[reduction] = [
            value.flatten().sort().values if items else value,
            *slopes(value.square().sum() if items else value, leaves),
        ]
    return results


def slopes(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a value, whose graph is kept for other forms of the same leaves."""
    return list(torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True))
