"""A clause: one promise, as a small function that raises where it is broken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from losses.checking.case import EXACT, Precision

Scope = Literal["every case", "each kind", "the class"]


@dataclass(frozen=True)
class Clause:
    """A promise and how it is checked: ``check(case)``, or ``check(case, precision)`` once for each precision."""

    name: str
    promise: str
    check: Callable[..., None]
    precisions: tuple[Precision, ...]
    of_the_call: bool
    """Whether it is about weights, totals or configuration, which a module that is only called as module(output,
    target) lacks."""
    scope: Scope = "every case"
    """What it is run on: the first case of a class where it is about the class, the first of each kind of input where
    it takes long, else every case."""

    def among(self, cases: Sequence[Any]) -> Sequence[Any]:
        """Return those of a loss's cases that it is run on."""
        if self.scope == "the class":
            return cases[:1]
        return list({case.kind: case for case in reversed(cases)}.values()) if self.scope == "each kind" else cases

    def run(self, case: Any, precision: Precision) -> None:
        self.check(case, precision) if len(self.precisions) > 1 else self.check(case)


CLAUSES: dict[str, Clause] = {}


def clause(
    *,
    precisions: Sequence[Precision] = (EXACT,),
    of_the_call: bool = False,
    scope: Scope = "every case",
    name: str = "",
    promise: str = "",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a clause under the name of its function, with the function's documentation as the promise."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        key = name or check.__name__
        text = promise or " ".join((inspect.getdoc(check) or "").split())
        CLAUSES[key] = Clause(key, text, check, tuple(precisions), of_the_call, scope)
        return check

    return register
