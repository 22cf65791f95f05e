"""A clause: one promise, as a small function that raises where it is broken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from losses.checking.case import EXACT, Precision


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
    once: bool = False
    """Whether it is about the class, so that it is run on the first case alone."""
    once_per_kind: bool = False
    """Whether it takes so long that it is run on the first case of each kind of input alone."""

    def among(self, cases: Sequence[Any]) -> Sequence[Any]:
        """Return those of a loss's cases that it is run on."""
        if self.once:
            return cases[:1]
        return list({case.kind: case for case in reversed(cases)}.values()) if self.once_per_kind else cases

    def run(self, case: Any, precision: Precision) -> None:
        self.check(case, precision) if len(self.precisions) > 1 else self.check(case)


CLAUSES: dict[str, Clause] = {}


def clause(
    *,
    precisions: Sequence[Precision] = (EXACT,),
    of_the_call: bool = False,
    once: bool = False,
    once_per_kind: bool = False,
    name: str = "",
    promise: str = "",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a clause under the name of its function, with the function's documentation as the promise."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        key = name or check.__name__
        text = promise or " ".join((inspect.getdoc(check) or "").split())
        CLAUSES[key] = Clause(key, text, check, tuple(precisions), of_the_call, once, once_per_kind)
        return check

    return register
