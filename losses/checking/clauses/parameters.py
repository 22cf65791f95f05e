"""Clauses about parameters: each counts, is read back as it was given, and means what it says on every path."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.checking.case import (
    EXACT,
    SIZE,
    Broken,
    Case,
    NotApplicable,
    leaves_of,
    require_finite,
    require_same,
    several_blocks,
)
from losses.checking.contract import clause
from losses.checking.observed import FINEST, Observed, apart, batches_for
from losses.checking.trials import STEP, Trial, questions
from losses.checking.values import (
    LOSSES,
    Rebuilder,
    Values,
    configuration_of,
    list_for,
    parameters_of,
    rebuilder,
    rebuilt,
    setting_of,
    settings_to_try,
)
from losses.core.building import build
from losses.core.checks import checks
from losses.core.errors import InputError
from losses.core.inputs import Batch
from losses.core.loss import Loss
from losses.core.parameters import as_configuration
from losses.core.reduction import total_of


@clause(of_the_call=True, scope="the class")
def parameters_count(case: Case) -> None:
    """every parameter changes value or gradient somewhere, with all its digits: none is ignored, rounded or clamped"""
    again = rebuilder(case)
    for parameter, values in parameters_of(again):
        open_questions, unanswered = questions(again.settings[parameter.name], values), ""
        for settings in settings_to_try(again, parameter.name):
            trial = Trial(case, settings, parameter.name)
            answers = [question(trial) for question in open_questions]
            open_questions = [each for each, answer in zip(open_questions, answers, strict=True) if not answer]
            unanswered = trial.unseen if False in answers else unanswered
            if not open_questions:
                break
        if open_questions and unanswered:
            raise Broken(f"{unanswered} on any batch, with any option of the others")


@clause(of_the_call=True, scope="the class")
def parameters_read_back(case: Case) -> None:
    """what a parameter is given is what the attribute, config(), a copy and the loss that config() makes say, and the
    defaults are those of the signature"""
    again, before = rebuilder(case), setting_and_value(case, case.loss)
    for parameter, values in parameters_of(again):
        for given in values_to_give(again, case, parameter.name, values):
            loss = again.build(**{parameter.name: given})
            if loss is not None:
                require_read_back(parameter.name, given, loss)
    require_defaults(case, again)
    if setting_and_value(case, case.loss) != before:
        raise Broken(f"{case.loss} changed when other losses of its class were built and called")


def values_to_give(again: Rebuilder, case: Case, name: str, values: Values) -> Iterator[Any]:
    """Yield values of every type that a parameter takes, in every way they can be written."""
    yield from (*values.options, *values.bounds, *values.integers, *(LOSSES if values.losses else ()))
    for number in values.numbers:
        yield from (number, number / 1024, round(1000 * number))
    for whole in (-1, 255, 2**40) if values.integers else ():
        yield from (whole, float(whole))
    for settings in settings_to_try(again, name) if values.lists else ():
        if (entries := list_for(settings, case, name)) is not None:
            yield from (entries, tuple(entries), torch.tensor(entries, dtype=torch.float64))
            break


def require_read_back(name: str, given: Any, loss: Loss) -> None:
    """Raise unless a loss says everywhere that a parameter is what was given."""
    wanted = configured(given)
    if not same_setting(setting_of(loss, name), wanted):
        raise Broken(f"{name}={given!r} became {setting_of(loss, name)!r}")
    config = configuration_of(loss)
    if name not in config or not same_setting(config[name], wanted):
        raise Broken(f"{name}={given!r} is {config.get(name, 'missing')!r} in config()")
    for what, other in {
        "the loss that config() makes": rebuilt(loss, json.loads(json.dumps(config))),
        "a copy": copy.deepcopy(loss),
        "a pickle": pickle.loads(pickle.dumps(loss)),
    }.items():
        if not same_setting(setting_of(other, name), wanted):
            raise Broken(f"{name}={given!r} became {setting_of(other, name)!r} in {what}")


def configured(given: Any) -> Any:
    """Return a value as configuration; of a loss its whole configuration."""
    if isinstance(given, Mapping) or given in LOSSES:
        return configuration_of(build(given))
    return list(given) if isinstance(given, tuple) else as_configuration(given)


def same_setting(one: Any, other: Any) -> bool:
    """Return whether two settings are equal: 2 is 2.0, and true is not 1. A number that is learnt has the digits of
    float32."""
    if isinstance(one, float) and isinstance(other, float | int) and not isinstance(other, bool):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def require_defaults(case: Case, again: Rebuilder) -> None:
    """Raise unless a loss without arguments has the defaults of its signature, and is the loss to which they are
    given."""
    defaults = {parameter.name: parameter.default for parameter, _ in parameters_of(again)}
    if inspect.Parameter.empty in defaults.values():
        return
    bare, spelt = again.cls(), again.cls(**defaults)
    for name, default in defaults.items():
        setting = setting_of(bare, name)
        wanted = configuration_of(build(default)) if isinstance(setting, dict) else configured(default)
        if not same_setting(setting, wanted):
            raise Broken(f"the default of {name} is {default!r}, without arguments it is {setting!r}")
    if setting_and_value(case, bare) != setting_and_value(case, spelt):
        raise Broken("with its defaults given the loss has another value than without arguments")


def setting_and_value(case: Case, loss: Loss) -> tuple[Any, Any]:
    """Return what tells two losses apart: what they say of themselves, and what they make of a batch."""
    result = Observed(copy.deepcopy(loss), batches_for(Case(loss, case.kind)))[0]
    return configuration_of(loss), str(result) if isinstance(result, Exception) else [
        tensor.tolist() for tensor in result
    ]


@clause(of_the_call=True, scope="the class")
def parameters_set_later(case: Case) -> None:
    """an attribute that is set on a loss in use counts from the next call on, in every reduction, or setting it is
    refused"""
    again, tried = rebuilder(case), 0
    for parameter, values in parameters_of(again):
        for value in (*values.options, *values.numbers[-2:-1], *values.integers[-1:], *(LOSSES[1:2] * values.losses)):
            fresh = again.build(**{parameter.name: value})
            if fresh is not None:
                tried += require_set_later(case, again.loss(), fresh, parameter.name)
    if not tried:
        raise NotApplicable("no parameter can be set to another value")


def require_set_later(case: Case, used: Loss, fresh: Loss, name: str) -> bool:
    """Raise unless a loss in use that is given another loss's value of a parameter becomes that loss; return whether it
    was given. A parameter that chooses another kind of input is not."""
    if case.kind not in fresh.inputs:
        return False
    batches = batches_for(Case(fresh, case.kind))
    shown = Observed(copy.deepcopy(used), batches).first_difference(Observed(copy.deepcopy(fresh), batches))
    if shown is None:
        return False
    batch = batches[shown]
    for reduction in ("mean", "none") if name != "reduction" else (fresh.reduction,):
        mine, expected = copy.deepcopy(used), copy.deepcopy(fresh)
        mine.reduction = expected.reduction = reduction
        with torch.no_grad(), checks("never"):
            first_call(mine, batch)
            first_call(expected, batch)
            # what calls before have counted is no part of the parameter
            state = {key: buffer for key, buffer in mine.state_dict().items() if key not in configuration_of(mine)}
            expected.load_state_dict(state, strict=False)
            wanted = expected(*batch)
            try:
                setattr(mine, name, copy.deepcopy(getattr(fresh, name)))
                value = mine(*batch)
            except Exception:
                return False
        require_same(f"{name} set to {setting_of(fresh, name)!r}, {reduction}", value, wanted)
        if not same_setting(configuration_of(mine).get(name), setting_of(fresh, name)):
            raise Broken(
                f"{name} set to {setting_of(fresh, name)!r} is {configuration_of(mine).get(name)!r} in config()"
            )
    return True


def first_call(loss: Loss, batch: Batch) -> None:
    """Call a loss, so that it keeps whatever it keeps from a first call."""
    with contextlib.suppress(Exception):
        loss(*batch)


@clause(of_the_call=True)
def parameters_on_every_path(case: Case) -> None:
    """with other values of the parameters too, all ways to a value and gradient agree with the definition and with
    differences, are finite at the bounds, and know the parameter with reference= and indices= too"""
    again = rebuilder(case)
    changes = list(changes_to_try(again, case))
    if not changes:
        raise NotApplicable("no parameter has a number or a list to change")
    for change in changes:
        text = ", ".join(f"{name}={value!r}" for name, value in change.items())
        changed = Case(again.loss(**change), case.kind)
        require_one_definition(changed, text)
        with several_blocks():
            require_one_definition(changed, f"{text}, in several blocks")
    if {"reference", "indices"} <= set(case.kind.context):
        for parameter, values in parameters_of(again):
            for number in values.numbers[-2:-1]:
                require_in_context(case, again, parameter.name, number)


def changes_to_try(again: Rebuilder, case: Case) -> Iterator[dict[str, Any]]:
    """Yield another number and list of each parameter, what it may be in place of a number, and the bounds of its
    range."""
    for parameter, values in parameters_of(again):
        name, entries = parameter.name, list_for(again, case, parameter.name) if values.lists else None
        others = [*values.numbers[-2:-1], *values.bounds, *values.integers[-1:], *([entries] if entries else [])]
        others += [option for option in values.options if values.numbers]
        for value in others:
            if value != again.settings[name] and again.build(**{name: value}) is not None:
                yield {name: value}


def require_one_definition(case: Case, text: str) -> None:
    """Raise unless all ways to a value and gradient of an ordinary batch agree with the definition."""
    batch = case.batch()
    leaves, rebuild = leaves_of(batch.output)
    loss = copy.deepcopy(case.loss)
    accepted = case.kind.accept(loss, rebuild(leaves), batch.target)
    items = loss.items(*accepted)
    total = total_of(items, None, loss.denominators(items, *accepted))
    ways = {"sum": total.sum, "sum, weights of 1": total.sum, "none": total.sum, "mean": total.mean()}
    if adds_up_means(loss.total(*batch).denominator):
        del ways["mean"]
    for way, expected in ways.items():
        reduction, _, weighted = way.partition(", ")
        try:
            options = {"weight": case.weights(torch.ones(SIZE, dtype=torch.float64))} if weighted else {}
        except (NotApplicable, InputError):
            continue
        value, gradients = Case(case.with_reduction(reduction), case.kind).run(batch, EXACT, **options)
        require_same(f"{text}, {way}", value.sum(), expected)
        for gradient, slope in zip(gradients, slopes_of(expected, leaves), strict=True):
            require_same(f"{text}, gradient of {way}", gradient, slope)
        require_finite(value, gradients)
    if "first_derivative" not in loss.exemptions:
        require_differences(case, text, batch)


def require_in_context(case: Case, again: Rebuilder, name: str, number: float) -> None:
    """Raise unless a number that makes a difference for a labelled batch does with a reference and with indices too."""
    here, there = (again.build(**{name: value}) for value in (number, number * (1 + STEP)))
    if here is None or there is None:
        return
    batch, other = case.batch(), case.batch(seed=1)
    contexts = {"reference": (other.output.detach(), other.target), "indices": all_triplets(batch.target)}
    with torch.no_grad():
        if not apart(here(*batch), there(*batch), FINEST):
            return
        for context, given in contexts.items():
            try:
                moves = apart(here(*batch, **{context: given}), there(*batch, **{context: given}), FINEST)
            except (TypeError, InputError):  # it takes none
                continue
            if not moves:
                raise Broken(f"{name}={number} and a little more make a difference, but none with {context}=")


def all_triplets(labels: Tensor) -> tuple[Tensor, ...]:
    """Return the indices of all triplets of a batch."""
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    return torch.nonzero(positive.unsqueeze(2) & ~same.unsqueeze(1), as_tuple=True)


def adds_up_means(denominator: Tensor | int) -> bool:
    """Return whether a loss adds up several means, of which the definition knows no sum."""
    return isinstance(denominator, Tensor) and denominator.ndim > 0


def slopes_of(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True))


def require_differences(case: Case, text: str, batch: Batch, step: float = 1e-6) -> None:
    """Raise unless the gradient along one direction is the difference of two values."""
    leaves, rebuild = leaves_of(batch.output)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]
    step *= max(1.0, *(float(leaf.detach().abs().max()) for leaf in leaves))
    _, gradients = Case(case.with_reduction("mean"), case.kind).run(batch)
    values = []
    with torch.no_grad(), checks("never"):
        for sign in (step, -step):
            moved = [leaf + sign * direction for leaf, direction in zip(leaves, directions, strict=True)]
            values.append(case.with_reduction("mean")(rebuild(moved), batch.target))
    slope = torch.stack([(part * way).sum() for part, way in zip(gradients, directions, strict=True)]).sum()
    require_same(f"{text}, gradient against differences", slope, (values[0] - values[1]) / (2 * step), 1e-5)
