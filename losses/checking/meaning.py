"""Clauses about what a loss means."""

from __future__ import annotations

import torch

from losses.checking.case import Case, NotApplicable, gradients_of, leaves_of, require_same
from losses.checking.clauses import clause


@clause()
def equals_its_oracle(case: Case) -> None:
    """value and gradient equal an independent oracle's"""
    if case.oracle is None:
        raise NotApplicable("no oracle was given")
    for seed in range(3):
        batch = case.batch(seed=seed)
        leaves, rebuild = leaves_of(batch.output)
        expected = case.oracle(rebuild(leaves), batch.target)
        value, gradients = case.run(batch)
        require_same("value", value, expected)
        for gradient, right in zip(gradients, gradients_of(expected, leaves), strict=True):
            require_same("gradient", gradient, right)


@clause()
def keeps_its_laws(case: Case) -> None:
    """the loss has the properties that it declares"""
    laws = case.loss.spec.laws if case.keeps_the_call else ()
    if not laws:
        raise NotApplicable("it declares none")
    for law in laws:
        for seed in range(3):
            law.check(case.loss, case.batch(seed=seed))


@clause(of_the_call=True)
def definition_equals_fast_path(case: Case) -> None:
    """the sum over items, the definition, is the total that is computed"""
    from losses.core.reduction import total_of

    batch = case.batch()
    accepted = case.kind.accept(case.loss, *batch)
    items = case.loss.items(*accepted)
    by_definition = total_of(items, None, case.loss.denominators(items, *accepted))
    total = case.loss.total(*batch)
    require_same("sum", total.sum.sum(), by_definition.sum)
    # a sum of several means has several weights
    if not isinstance(total.denominator, torch.Tensor) or not total.denominator.ndim:
        require_same("mean", total.mean(), by_definition.mean())
        require_same("mean that is returned", case.with_reduction("mean")(*batch), by_definition.mean())
