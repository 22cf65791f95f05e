"""Clauses about what is refused, and with which words."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any, get_args

import torch
from annotated_types import Ge, Gt, Le, Lt

from losses.checking.case import SIZE, Broken, Case, rows_of
from losses.checking.contract import clause
from losses.core.checks import checks
from losses.core.errors import ConfigError, InputError
from losses.core.inputs import CLASS_INDICES, EMBEDDINGS, LINEAR_LOGITS, LOGITS, Batch
from losses.core.outputs import map_floating, map_tensors, tensors_in
from losses.core.parameters import declared_parameters


@clause(of_the_call=True)
def bad_parameters_are_refused(case: Case) -> None:
    """a parameter that is not what its annotation says, or unknown, raises a ConfigError that names it and what came"""
    cls = type(case.loss)
    wrong = {parameter.name: excluded_by(parameter.annotation) for parameter in declared_parameters(cls.__init__)}
    for name, values in {**wrong, "no_such_parameter": iter([1])}.items():
        for value in values:
            try:
                cls(**{name: value})
            except ConfigError as error:
                if name not in str(error):
                    raise Broken(f"{name}={value!r}: the message does not name it: {error}") from None
            else:
                raise Broken(f"{name}={value!r} is accepted")


def excluded_by(annotation: Any) -> Iterator[object]:
    """Yield values that an annotation excludes: of no type it could mean, and just outside its bounds."""
    yield from (math.nan, -math.inf, object(), {"no": "such"}, "no such option", [[]], torch.zeros(2, 2))
    for part in (annotation, *get_args(annotation)):
        for bound in getattr(part, "__metadata__", ()):
            limits = {Gt: ("gt", 0), Ge: ("ge", -1), Lt: ("lt", 0), Le: ("le", 1)}
            if type(bound) in limits:
                attribute, outwards = limits[type(bound)]
                limit = getattr(bound, attribute)
                yield limit + outwards * max(1, abs(limit))


@clause()
def bad_batches_are_refused(case: Case) -> None:
    """NaN on the first batch, integers, complex numbers, wrong ranks and lengths, labels that are no integers and
    classes that do not exist raise an InputError"""
    for name, bad in {**wrong_batches(case.batch()), **wrong_labels(case)}.items():
        refusal(case, name, bad)


@clause(of_the_call=True)
def unknown_arguments_are_refused(case: Case) -> None:
    """a third argument by position, which is a weight elsewhere, and a keyword that is misspelt are refused"""
    batch = case.batch()
    weight = torch.ones(SIZE, dtype=torch.float64)
    for name, positional, keywords in (
        ("a weight by position", (weight,), {}),
        ("wieght=", (), {"wieght": weight}),
        ("normaliser=", (), {"normaliser": 2.0}),
    ):
        try:
            copy.deepcopy(case.loss)(*batch, *positional, **keywords)
        except (InputError, TypeError):
            continue
        raise Broken(f"{name} is accepted")


@clause(of_the_call=True)
def refusals_help(case: Case) -> None:
    """the message of an InputError says what came, what was expected and how to mend it"""
    for name, bad in wrong_batches(case.batch()).items():
        message = refusal(case, name, bad)
        for what, pattern in {
            "what came": r"got |has shape|holds|and .* \(",
            "what was expected": r"must|takes|needs?|there must be|compares",
            "how to mend it": r"; (?!got)|\(",
        }.items():
            if not re.search(pattern, message if what == "what came" else SHAPE.sub("", message)):
                raise Broken(f"{name}: does not say {what}: {message}")


@clause(of_the_call=True)
def bad_weights_are_refused(case: Case) -> None:
    """a weight that is negative, NaN, no tensor, of another length or one per column raises an InputError"""
    ones = case.weights(torch.ones(SIZE, dtype=torch.float64))
    batch = case.batch()
    columns = tensors_in(batch.output)[0].shape[-1]
    wrong = {
        "negative": -ones,
        "NaN": ones * math.nan,
        "too long": torch.ones(SIZE + 1),
        "one per column": torch.ones(columns),
        "a list": [1.0] * SIZE,
    }
    for name, weight in wrong.items():
        fresh = copy.deepcopy(case.loss)
        try:
            with checks("always"):
                fresh(*batch, weight=weight)
        except InputError:
            continue
        raise Broken(f"{name} is accepted")


SHAPE = re.compile(r"\((?:[\d, ]*|\*|N[^)]*|\.\.\.[^)]*)\)")
"""A shape in brackets, which is no advice."""


def wrong_batches(batch: Batch) -> dict[str, Batch]:
    """Return batches that are wrong in one way each."""
    output, target = batch
    narrow = {}
    if isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor) and output.shape == target.shape:
        narrow = {"one column": Batch(output[:, :1], target), "(N, 1) against (N,)": Batch(output[:, :1], target[:, 0])}
    if isinstance(target, torch.Tensor) and target.dtype.is_floating_point:
        narrow["NaN in the target"] = Batch(output, target.index_fill(0, torch.tensor([2]), math.nan))
    return {
        "NaN": Batch(
            map_floating(batch.output, lambda t: t.detach().index_fill(0, torch.tensor([2]), math.nan)), batch.target
        ),
        "integers": Batch(map_floating(batch.output, lambda t: t.detach().long()), batch.target),
        "complex numbers": Batch(map_floating(batch.output, lambda t: t.detach().to(torch.complex64)), batch.target),
        "no tensor": Batch("output", batch.target),
        **misfits(batch),
        **narrow,
    }


def misfits(batch: Batch) -> dict[str, Batch]:
    """Return batches whose parts do not fit together; where a tensor is all there is, one with a target."""
    output, target = batch
    if target is None and isinstance(output, torch.Tensor):
        return {"a target where there is none": Batch(output, output.detach())}
    if target is None:
        one_row = rows_of(batch, slice(0, 1)).output[-1]
        one_sample_more = Batch(type(output)(*output[:-1], one_row), None)
    else:
        one_sample_more = Batch(output, map_tensors(target, lambda t: torch.cat([t, t[:1]])))
    return {
        "one dimension more": Batch(map_tensors(output, lambda t: t[None]), target),
        "one sample more": one_sample_more,
    }


def wrong_labels(case: Case) -> dict[str, Batch]:
    """Return batches whose labels or class indices are wrong in one way each; other libraries take what they like."""
    output, target = case.batch()
    if not case.keeps_the_call:
        return {}
    if case.kind is EMBEDDINGS:
        return {"labels of floating point": Batch(output, target + 0.25)}
    if case.kind not in (LOGITS, CLASS_INDICES, LINEAR_LOGITS) or target.dtype.is_floating_point:
        return {}
    classes = output.classes if case.kind is LINEAR_LOGITS else output.shape[1]
    return {
        "a class beyond the logits": Batch(output, target.index_fill(0, torch.tensor([2]), classes)),
        "a class below 0": Batch(output, target.index_fill(0, torch.tensor([2]), -classes - 1)),
    }


def refusal(case: Case, name: str, bad: Batch) -> str:
    """Return the message with which a fresh copy of the loss refuses a batch."""
    fresh = copy.deepcopy(case.loss)
    try:
        with checks("always"):
            fresh(*bad)
    except InputError as error:
        return str(error)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError) as error:
        if case.keeps_the_call:
            raise Broken(f"{name}: {type(error).__name__}: {error}") from None
        return str(error)  # other libraries have their own errors
    raise Broken(f"{name} is accepted")
