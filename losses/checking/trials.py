"""Trials of a parameter: whether its values make a difference, with all their digits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise
from typing import Any

from losses.checking.case import Broken, Case
from losses.checking.observed import FINEST, Batches, Observed, batches_for
from losses.checking.values import LOSSES, Rebuilder, Values, is_learnt, list_for, parameters_of, setting_of
from losses.core.loss import Loss

STEP = 2.0**-27
"""A change that float64 holds and float32 rounds away."""
COARSE = 2.0**-16

Question = Callable[["Trial"], bool | None]
"""Whether something about a parameter makes a difference; ``None`` where no loss can be built to ask it of."""


def questions(now: Any, values: Values) -> list[Question]:
    """Return what to ask of a parameter that has a value ``now``."""
    options = {repr(option): option for option in (now, *values.options, *(LOSSES if values.losses else ()))}
    pairs = combinations(options.values(), 2) if values.options or values.losses else ()
    asked: list[Question] = [partial(Trial.tells_apart, one=one, other=other) for one, other in pairs]
    asked += [Trial.numbers] if values.numbers else []
    asked += [Trial.integers] if values.integers else []
    return [*asked, Trial.entries] if values.lists else asked


class Trial:
    """One parameter of a loss, with the others as they are, on batches drawn for it."""

    def __init__(self, case: Case, again: Rebuilder, name: str) -> None:
        self.again, self.name = again, name
        self.values = next(values for parameter, values in parameters_of(again) if parameter.name == name)
        self.case = Case(again.loss(), case.kind)
        self.drawn = {isinstance(again.settings[name], list): batches_for(self.case)}
        """Batches as they are where the parameter is a list, and where it is not."""
        self.unseen = ""
        """What was found to make no difference."""
        self.known: dict[str, Observed | None] = {}

    def observed(self, value: Any) -> Observed | None:
        """Return the loss with another value, or ``None`` if a rule between parameters excludes it."""
        if (key := repr(value)) not in self.known:
            loss = self.again.build(**{self.name: value})
            self.known[key] = None if loss is None else Observed(loss, self.batches(loss, value))
        return self.known[key]

    def batches(self, loss: Loss, value: Any) -> Batches:
        """Return the batches for a loss with a value of the parameter: a list may be for other shapes than a number."""
        if (form := isinstance(value, list)) not in self.drawn:
            self.drawn[form] = batches_for(Case(loss, self.case.kind))
        return self.drawn[form]

    def tells_apart(self, one: Any, other: Any) -> bool | None:
        """Return whether two values make a difference, on batches drawn for the loss as it is or for one of them."""
        first, second = self.observed(one), self.observed(other)
        if first is None or second is None:
            return None
        if self.name == "reduction" and {one, other} == {"mean", "sum"} and self.makes_one_item():
            return True  # whose mean is its sum
        same_setting = setting_of(first.loss, self.name) == setting_of(second.loss, self.name) and one is not other
        if (same_setting and self.values.losses) or first.differs_from(second):
            return True
        for chosen in (first, second):  # what a form means shows on batches in that form
            drawn = batches_for(Case(chosen.loss, self.case.kind))
            if Observed(first.loss, drawn).differs_from(Observed(second.loss, drawn)):
                return True
        if None in (one, other) and self.values.integers:  # an index that no batch holds is as good as none
            without = first if one is None else second
            others = [self.observed(value) for value in self.values.integers]
            if any(each is not None and without.differs_from(each) for each in others):
                return True
        self.unseen = f"{self.name}={one!r} and {self.name}={other!r} make no difference"
        return False

    def makes_one_item(self) -> bool:
        """Return whether the loss makes a single item of a whole batch."""
        items = self.case.with_reduction("none")(*self.case.batch())
        return bool(items.shape == (1,))

    def integers(self) -> bool | None:
        """Return whether some integer makes a difference."""
        now = self.observed(self.again.settings[self.name])
        others = [other for value in self.values.integers if (other := self.observed(value)) is not None]
        if now is None or not others:
            return None
        self.unseen = f"{self.name} in {self.values.integers} makes no difference"
        return any(now.differs_from(other) for other in others)

    def numbers(self) -> bool | None:
        """Return whether numbers make a difference, or raise where some do and others do not."""
        moving = {value: self.moves(value, STEP) for value in self.values.numbers}
        still = [value for value, moved in moving.items() if moved is False]
        if not still:
            return True if any(moving.values()) else None
        quiet = f"{self.name}={still[0]} and {self.name}={still[0] * (1 + STEP)} make no difference"
        if any(moving.values()):
            raise Broken(f"{quiet} on any batch, where other values do: it is clamped or rounded")
        if any(self.moves(value, COARSE, among=4) for value in still):
            if is_learnt(self.case.loss, self.name):
                return True
            raise Broken(f"{quiet} on any batch, where a larger step does: digits are lost")
        within_one = [pair for pair in pairwise(still) if int(pair[0]) == int(pair[1])]
        if any(self.tells_apart(*pair) for pair in within_one):
            return True  # a threshold, between whose values nothing changes
        if self.tells_apart(still[0], still[-1]):
            raise Broken(f"{quiet} on any batch, nor do {within_one}: it is rounded to integers")
        self.unseen = quiet
        return False

    def moves(self, value: float, step: float, among: int = sys.maxsize) -> bool | None:
        """Return whether a small step from a value makes a difference, ``None`` where neither can be built."""
        here, there = self.observed(value), self.observed(value * (1 + step))
        if here is None or there is None:
            return None
        here.require_answers(f"{self.name}={value}")
        return here.differs_from(there, FINEST, among)

    def entries(self) -> bool | None:
        """Return whether every entry of a list makes a difference."""
        entries = list_for(self.again, self.case, self.name)
        if entries is None:
            return None
        now = self.observed(entries)
        for index in range(len(entries)):
            other = self.observed([entry * (1 + STEP * (index == at)) for at, entry in enumerate(entries)])
            if now is not None and other is not None and not now.differs_from(other, FINEST):
                self.unseen = f"entry {index} of {self.name} makes no difference"
                return False
        return True
