"""Clauses about parameters whose name has one meaning in the field, and about lists of numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.checking.case import SIZE, Broken, Case, NotApplicable, require_same, rows_of
from losses.checking.clauses.parameters import changes_to_try
from losses.checking.contract import clause
from losses.checking.values import Rebuilder, list_for, parameters_of, rebuilder, settings_to_try
from losses.core.errors import InputError
from losses.core.inputs import Batch
from losses.core.inputs.predictions import Binary, Logits
from losses.core.outputs import map_tensors

REDUCTIONS = ("mean", "sum")
IGNORED = (2, 5)
"""Samples whose target is ignored."""


@clause(of_the_call=True, scope="the class")
def any_index_can_be_ignored(case: Case) -> None:
    """whatever ignore_index is, -1, 255 or a class, a target of it changes nothing, with any other parameter and in any
    shape"""
    again = rebuilder(case)
    if "ignore_index" not in again.settings or not isinstance(case.kind, Logits):
        raise NotApplicable("it has no ignore_index")
    for index in (-1, 255, 2):
        require_ignored(case, again, {"ignore_index": index})
    for change in changes_to_try(again, case):
        if "ignore_index" not in change:
            require_ignored(case, again, change | {"ignore_index": -1})


def require_ignored(case: Case, again: Rebuilder, change: dict[str, Any]) -> None:
    """Raise unless a batch with targets that are ignored costs what it costs without them."""
    batch, index = hard(case.batch()), change["ignore_index"]
    classes = batch.output.shape[1]
    others = batch.target.where(batch.target != index, (batch.target + 1) % classes)
    ignored = torch.isin(torch.arange(SIZE), torch.tensor(IGNORED))
    with_ignored = Batch(batch.output, others.masked_fill(ignored, index))
    without = rows_of(Batch(batch.output, others), ~ignored)
    text = ", ".join(f"{name}={value!r}" for name, value in change.items())
    losses = {reduction: again.loss(**change, reduction=reduction) for reduction in (*REDUCTIONS, "none")}
    for reduction in REDUCTIONS:
        value, (gradient,) = Case(losses[reduction], case.kind).run(with_ignored)
        expected, (other,) = Case(losses[reduction], case.kind).run(without)
        require_same(f"{text}, {reduction}", value, expected)
        require_same(f"{text}, gradient of {reduction}", gradient[~ignored], other)
        require_same(f"{text}, gradient of what is ignored", gradient[ignored], torch.zeros_like(gradient[ignored]))
    for form in case.kind.shapes(case.loss, with_ignored)["positions"]:
        value = losses["mean"](*form.batch)
        require_same(f"{text}, {tuple(form.batch.output.shape)}", value, losses["mean"](*without))
    items = losses["none"](*with_ignored)
    require_same(f"{text}, none", items[ignored], torch.zeros_like(items[ignored]))
    require_same(f"{text}, none", items[~ignored], losses["none"](*without))


@clause(of_the_call=True, scope="the class")
def usual_parameters_mean_the_usual(case: Case) -> None:
    """class_weight multiplies the items of its class, positive_weight those of positive targets, and label_smoothing
    mixes targets with equal probabilities"""
    again, checked = rebuilder(case), 0
    usual = {"class_weight": class_weight, "positive_weight": positive_weight, "label_smoothing": label_smoothing}
    for name, check in usual.items():
        known = again.settings.keys() >= {name} and again.build(**{name: None if "weight" in name else 0.0}) is not None
        checked += known and check(case, again)
    if not checked:
        raise NotApplicable("it has none of them")


def class_weight(case: Case, again: Rebuilder) -> bool:
    """Check weights of classes against items without them, on class indices."""
    weights = list_for(again, case, "class_weight")
    if weights is None or not isinstance(case.kind, Logits):
        return False
    batch = hard(case.batch())
    sharp = {"label_smoothing": 0.0} if "label_smoothing" in again.settings else {}
    unweighted, weighted = (again.loss(**sharp, class_weight=each, reduction="none") for each in (None, weights))
    items = unweighted(*batch)
    if items.shape == batch.target.shape:
        expected = items * torch.tensor(weights, dtype=items.dtype)[batch.target]
        require_same(f"class_weight={weights}", weighted(*batch), expected)
    ones = again.loss(class_weight=[1.0] * len(weights))
    require_same("class_weight of ones", ones(*batch), again.loss(class_weight=None)(*batch))
    return True


def positive_weight(case: Case, again: Rebuilder) -> bool:
    """Check weights of positive targets, a number or one per entry, against items without them."""
    if not isinstance(case.kind, Binary):
        return False
    target = (case.batch().target > 0.5).double()
    batch = Batch(case.batch().output, target)
    sharp = {"label_smoothing": 0.0} if "label_smoothing" in again.settings else {}
    items = again.loss(**sharp, positive_weight=None, reduction="none")(*batch)
    for weight in (1.0, 2.5, list_for(again, case, "positive_weight")):
        loss = again.build(**sharp, positive_weight=weight, reduction="none")
        if weight is not None and loss is not None and items.shape == target.shape:
            expected = torch.where(target > 0, items * torch.as_tensor(weight, dtype=items.dtype), items)
            require_same(f"positive_weight={weight}", loss(*batch), expected)
    return True


def label_smoothing(case: Case, again: Rebuilder) -> bool:
    """Check smoothed targets against targets that are smoothed beforehand."""
    amount, batch = 0.3125, case.batch()
    if isinstance(case.kind, Logits):
        batch = hard(batch)
        probabilities = F.one_hot(batch.target, batch.output.shape[1]).double()
        given, states = batch, probabilities.shape[1]
        try:
            case.kind.accept(case.loss, batch.output, probabilities)
        except InputError:  # it takes class indices alone
            return False
    elif isinstance(case.kind, Binary):
        given, probabilities, states = batch, batch.target, 2
    else:
        return False
    smooth = Batch(batch.output, probabilities * (1 - amount) + amount / states)
    for reduction in ("none", *REDUCTIONS):
        if reduction == "mean" and again.settings.get("class_weight") is not None:
            continue  # which divides by the weights of the indices
        expected = Case(again.loss(label_smoothing=0.0, reduction=reduction), case.kind).run(smooth)
        value = Case(again.loss(label_smoothing=amount, reduction=reduction), case.kind).run(given)
        require_same(f"label_smoothing={amount}, {reduction}", value[0], expected[0])
        require_same(f"label_smoothing={amount}, gradient of {reduction}", value[1][0], expected[1][0])
    return True


@clause(of_the_call=True, scope="the class")
def lists_move_with_the_loss(case: Case) -> None:
    """a parameter that is a list of numbers moves with .to(dtype) and .to(device), and is nobody else's tensor"""
    again, checked = rebuilder(case), 0
    for parameter, values in parameters_of(again):
        for settings, entries in lists_to_try(again, case, parameter.name) if values.lists else ():
            given = torch.tensor(entries, dtype=torch.float64)
            loss = settings.loss(**{parameter.name: given})
            expected = loss(*(batch := Case(loss, case.kind).batch()))
            for dtype in (torch.float32, torch.bfloat16, torch.float64):
                moved = copy.deepcopy(loss).to(dtype)
                require_same(f"{parameter.name}, moved to {dtype}", moved(*batch), expected)
            require_on_another_device(copy.deepcopy(loss).to("meta"), batch)
            given.fill_(0.125)
            require_same(f"{parameter.name}, when the tensor that was given changed", loss(*batch), expected)
            checked += 1
            break
    if not checked:
        raise NotApplicable("it has no list of numbers")


def require_on_another_device(loss: Any, batch: Batch) -> None:
    """Raise unless a loss that was moved to the meta device computes there."""
    left = [
        name for name, value in vars(loss).items() if isinstance(value, Tensor) and value.ndim and not value.is_meta
    ]
    if left:
        raise Broken(f".to(device) leaves {', '.join(left)} behind")
    there = Batch(*(map_tensors(part, lambda tensor: tensor.detach().to("meta")) for part in batch))
    try:
        value = loss(*there)
    except (RuntimeError, TypeError, ValueError) as error:
        if "device" in str(error):
            raise Broken(f"on another device: {error}") from None
        return
    if not value.is_meta:
        raise Broken(f"on another device the value lies on {value.device}")


def lists_to_try(again: Rebuilder, case: Case, name: str) -> Iterator[tuple[Rebuilder, list[float]]]:
    """Yield with which other parameters a list is taken, and a list."""
    for settings in settings_to_try(again, name):
        trial = Case(settings.loss(), case.kind)
        if (entries := list_for(settings, trial, name)) is not None:
            yield settings, entries


def hard(batch: Batch) -> Batch:
    """Return a batch of logits with class indices."""
    target = batch.target
    return Batch(batch.output, target.argmax(1) if target.dtype.is_floating_point else target)
