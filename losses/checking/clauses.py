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
    every_case: bool = True
    """Whether it is run with every option of every parameter, or, where that takes long, with the first of each kind
    of input."""

    def run(self, case: Any, precision: Precision) -> None:
        self.check(case, precision) if len(self.precisions) > 1 else self.check(case)


CLAUSES: dict[str, Clause] = {}


def clause(
    *,
    precisions: Sequence[Precision] = (EXACT,),
    of_the_call: bool = False,
    every_case: bool = True,
    name: str = "",
    promise: str = "",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a clause under the name of its function, with the function's documentation as the promise."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        key = name or check.__name__
        promised = promise or " ".join((inspect.getdoc(check) or "").split())
        CLAUSES[key] = Clause(key, promised, check, tuple(precisions), of_the_call, every_case)
        return check

    return register
