"""Tests of the tests: every broken loss is rejected by the clause named for its fault, which the correct loss keeps."""

import re

import pytest

from losses.checking import CLAUSES
from tests.mutants import MUTANTS
from tests.mutants.correct import Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=repr)
def test_a_broken_loss_is_rejected_by_the_clause_named_for_its_fault(mutant: Mutant) -> None:
    failures = mutant.check(mutant.loss).failures
    assert {failure.clause for failure in failures} == {mutant.clause}
    for failure in failures:
        assert re.search(mutant.seen, failure.seen.partition(": not so for ")[2]), failure.seen


@pytest.mark.parametrize(
    "mutant", {f"{mutant.clause}-{mutant.correct}": mutant for mutant in MUTANTS}.values(), ids=repr
)
def test_the_loss_without_the_fault_keeps_that_clause(mutant: Mutant) -> None:
    assert {verdict.outcome for verdict in mutant.check(mutant.correct).verdicts} == {"kept"}


def test_every_clause_has_a_broken_loss_to_reject() -> None:
    assert {mutant.clause for mutant in MUTANTS} == set(CLAUSES)
