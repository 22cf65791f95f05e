"""The contract of a loss as clauses that run: on every loss of this package, and on yours.

A clause is a small function whose documentation is the promise. ``check_loss`` runs every clause on every case: each
kind of input, with the default parameters and with each option of each parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from losses.checking.case import EXACT, Broken, Case, NotApplicable, Precision, cases_of, options_of
from losses.checking.clauses.surroundings import settings_restored  # and with it every clause
from losses.checking.contract import CLAUSES, Clause, clause
from losses.checking.report import Report, Verdict
from losses.core.errors import ConfigError, suggestion
from losses.core.inputs import Kind
from losses.core.loss import Loss
from losses.core.registry import Spec, find


def check_loss(
    loss: nn.Module | type[Loss] | str,
    *,
    clauses: Sequence[str] | None = None,
    inputs: Kind | None = None,
    oracle: Callable[[Any, Any], Tensor] | None = None,
    exemptions: Mapping[str, str] | None = None,
) -> Report:
    """Run the contract on a loss, or on any module that is called as ``module(output, target)``.

    Most of its time is torch.compile's. A class or name takes longer than an instance, as every option of every
    parameter is tried on every kind of input.

    Args:
        loss: a loss, its class or its name. A class or name is checked with every option of every parameter, an
            instance with its own parameters.
        clauses: names of the clauses to run, from ``losses.checking.CLAUSES``; by default all.
        inputs: what a module takes that is no :class:`Loss`, one of ``losses.core.inputs``; of a loss, to check one
            kind only.
        oracle: an independent function of output and target for the loss's reduced value, in torch; of a class or name,
            for its default parameters.
        exemptions: clauses that it cannot keep, each with the reason; the same as an attribute ``exemptions`` of its
            class, for modules that are not yours.

    A loss that gives no number at all breaks ``gives_a_loss`` and is tried no further.

    Raises:
        ConfigError: a clause does not exist, or a module's kind of input is missing.

    >>> print(check_loss("mse", clauses=["config_round_trip", "empty_batch"]))
    mse
    config_round_trip  kept  create(loss.config()) is the same loss
    empty_batch        kept  an empty batch costs 0, with a graph and zero gradient
    2 kept
    >>> from losses.core.inputs import POINTWISE
    >>> print(check_loss(torch.nn.MSELoss(), inputs=POINTWISE, clauses=["one_item", "config_round_trip"]))
    MSELoss
    one_item           kept         a batch of one has a finite value and gradient
    config_round_trip  not offered  create(loss.config()) is the same loss
    1 kept, 1 not offered
    """
    for name in (*(clauses or ()), *(exemptions or ())):
        if name not in CLAUSES:
            raise ConfigError(f"there is no clause {name!r}.{suggestion(name, CLAUSES)}")
    cases = list(cases_of(loss, inputs, oracle))
    if clauses is None:
        first = verdict(CLAUSES["gives_a_loss"], cases, EXACT)
        if first.outcome == "broken":
            return Report(name_of(loss), (first,))
    chosen = [CLAUSES[name] for name in clauses or CLAUSES]
    verdicts = [verdict(each, cases, precision, exemptions) for each in chosen for precision in each.precisions]
    return Report(name_of(loss), tuple(verdicts))


def name_of(loss: nn.Module | type[Loss] | str) -> str:
    """Return what a report calls a loss: its registered name, or the class of a module that has none."""
    spec = find(loss) if isinstance(loss, str) else getattr(loss, "spec", None)
    return spec.name if isinstance(spec, Spec) else type(loss).__name__


def verdict(
    clause: Clause, cases: Sequence[Case], precision: Precision, exemptions: Mapping[str, str] | None = None
) -> Verdict:
    """Return what becomes of a clause in one precision, on all cases of a loss."""
    where = precision.name if len(clause.precisions) > 1 else ""
    if not cases:
        return Verdict(
            clause.name, where, "not applicable", f"{clause.promise}: no batch of it can be drawn as tensors"
        )
    reason = {**getattr(cases[0].loss, "exemptions", {}), **(exemptions or {})}.get(clause.name)
    if reason is not None:
        return Verdict(clause.name, where, "declared", f"{clause.promise}: not so, {reason}")
    kept_on, not_on, why = dict[str, None](), dict[str, None](), ""
    for case in clause.among(cases):
        if clause.of_the_call and not case.keeps_the_call:
            return Verdict(clause.name, where, "not offered", clause.promise)
        try:
            with settings_restored():  # or a loss that changes them would break the clauses that come after
                clause.run(replace(case, loss=copy.deepcopy(case.loss)), precision)
            kept_on[str(case.kind)] = None
        except NotApplicable as reason:
            why = str(reason)
            not_on[str(case.kind)] = None
        except Exception as error:  # whatever a loss does wrong is a verdict, not the end of the report
            text = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            return Verdict(
                clause.name, where, "broken", f"{clause.promise}: not so for {case}: {' '.join(text.split())[:400]}"
            )
    if kept_on and not_on.keys() - kept_on.keys():
        return Verdict(
            clause.name, where, "kept", f"{clause.promise}: on {', '.join(kept_on)} alone ({why})", tuple(kept_on)
        )
    if kept_on:
        return Verdict(clause.name, where, "kept", clause.promise)
    return Verdict(clause.name, where, "not applicable", f"{clause.promise}: {why}")


__all__ = [
    "CLAUSES",
    "Broken",
    "Case",
    "Clause",
    "NotApplicable",
    "Precision",
    "Report",
    "Verdict",
    "cases_of",
    "check_loss",
    "clause",
    "options_of",
]
