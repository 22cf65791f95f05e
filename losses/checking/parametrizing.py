"""The contract as tests of pytest, one for each clause and precision; nothing else of the package imports pytest."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from torch import Tensor, nn

from losses.checking import verdict
from losses.checking.case import EXACT, Case, Precision, cases_of, require_checkable
from losses.checking.contract import CLAUSES, Clause
from losses.core.errors import ConfigError, suggestion
from losses.core.inputs import Kind
from losses.core.loss import Loss

Subject = nn.Module | type[Loss] | str
"""What can be checked: a loss, its class or name, or a module that is called as module(output, target)."""


@dataclass(frozen=True)
class ClauseTest:
    """A clause in one precision, called with a loss inside a test: it passes, fails, skips or expects to fail."""

    clause: Clause
    precision: Precision
    inputs: Kind | None = None
    oracle: Callable[[Any, Any], Tensor] | None = None
    exemptions: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, loss: Subject) -> None:
        """Check the clause on every case of a loss, as :func:`losses.check_loss` does.

        - It is broken: the test fails, and says for which case and what was seen.
        - It does not apply, or is not offered: the test is skipped, with the reason.
        - The loss is exempt from it: the test is expected to fail, with the reason. What holds in one precision and not
          in another passes there; what holds in all needs no exemption, and the test fails.
        """
        if self.clause.name != "gives_a_loss" and not gives_a_loss(loss, self.inputs):
            pytest.skip("it gives no loss that could be checked; see gives_a_loss")
        cases = list(cases_of(loss, self.inputs, self.oracle))
        reason = {**declared(cases), **self.exemptions}.get(self.clause.name)
        cases = [replace(case, loss=without(case.loss, self.clause.name)) for case in cases]
        found = verdict(self.clause, cases, self.precision)
        if found.outcome == "broken" and reason is None:
            pytest.fail(f"{name_of(loss)} breaks {self}\n{found.seen}", pytrace=False)
        if found.outcome == "broken":
            pytest.xfail(f"{reason} ({found.seen})")
        if reason is not None and self._is_for_all(loss) and not self._broken_somewhere(cases):
            pytest.fail(
                f"{name_of(loss)} is exempt from {self.clause.name} ({reason}), and keeps it or has nothing to do with "
                "it: leave the exemption out",
                pytrace=False,
            )
        if found.outcome != "kept":
            why = found.seen.removeprefix(f"{self.clause.promise}: ")
            pytest.skip(f"{found.outcome}: {why}")

    def _is_for_all(self, loss: Subject) -> bool:
        """Return whether an exemption must be needed here: that of a class may be for other parameters than an
        instance's, or for another kind of input than the one that is asked for."""
        return self.clause.name in self.exemptions or (isinstance(loss, str | type) and self.inputs is None)

    def _broken_somewhere(self, cases: Sequence[Case]) -> bool:
        """Return whether the clause is broken in any precision."""
        return any(verdict(self.clause, cases, each).outcome == "broken" for each in self.clause.precisions)

    def __str__(self) -> str:
        return f"{self.clause.name}-{self.precision.name}" if len(self.clause.precisions) > 1 else self.clause.name


def parametrize_with_clauses(
    losses: Sequence[Subject],
    *,
    clauses: Sequence[str] | None = None,
    inputs: Kind | None = None,
    oracle: Callable[[Any, Any], Tensor] | None = None,
    exemptions: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Make of a test ``(loss, clause)`` one for each loss, clause and precision, to run as ``clause(loss)``.

    Nothing is checked or built before a test runs. The names of the tests are the same in every run:
    ``huber-equal_points-float16``, ``HuberLoss-compiles``; losses of one name are numbered, ``HuberLoss1-compiles``.

    Args:
        losses: losses, their classes or names, or modules that are called as ``module(output, target)``.
        clauses, inputs, oracle, exemptions: as for :func:`losses.check_loss`, the same for all of the losses.

    Raises:
        ConfigError: a clause does not exist, or a module's kind of input is missing.

    >>> @parametrize_with_clauses(["mse"], clauses=["one_item"])
    ... def test_contract(loss, clause):
    ...     clause(loss)
    >>> [parameters.id for parameters in test_contract.pytestmark[0].args[1]][:2]
    ['mse-one_item-float64', 'mse-one_item-float32']
    """
    for name in (*(clauses or ()), *(exemptions or ())):
        if name not in CLAUSES:
            raise ConfigError(f"there is no clause {name!r}.{suggestion(name, CLAUSES)}")
    tests = [
        ClauseTest(CLAUSES[name], precision, inputs, oracle, dict(exemptions or {}))
        for name in clauses or CLAUSES
        for precision in CLAUSES[name].precisions
    ]
    for loss in losses:
        require_checkable(loss, inputs)
    named = list(zip(losses, numbered([name_of(loss) for loss in losses]), strict=True))
    return pytest.mark.parametrize(
        ("loss", "clause"),
        [pytest.param(loss, test, id=f"{name}-{test}") for loss, name in named for test in tests],
    )


@functools.cache
def gives_a_loss(loss: Subject, inputs: Kind | None) -> bool:
    """Return whether a loss gives one on every case; every test of it asks, and it is found once."""
    return verdict(CLAUSES["gives_a_loss"], list(cases_of(loss, inputs)), EXACT).outcome != "broken"


def name_of(loss: Subject) -> str:
    """Return what a loss is called in the names of tests: its name as it is given, else its class."""
    return loss if isinstance(loss, str) else (loss if isinstance(loss, type) else type(loss)).__name__


def numbered(names: Sequence[str]) -> Iterator[str]:
    """Yield names, those that come several times with a number from 1."""
    for place, name in enumerate(names):
        yield name if names.count(name) == 1 else f"{name}{names[: place + 1].count(name)}"


def declared(cases: Sequence[Case]) -> Mapping[str, str]:
    """Return the exemptions that the class of a loss declares."""
    exemptions: Mapping[str, str] = getattr(cases[0].loss, "exemptions", {}) if cases else {}
    return exemptions


def without(loss: Any, clause: str) -> Any:
    """Return a loss that is not exempt from a clause; a copy, if it was."""
    exemptions = getattr(loss, "exemptions", {})
    if clause in exemptions:
        loss = copy.copy(loss)
        loss.exemptions = {name: reason for name, reason in exemptions.items() if name != clause}
    return loss
