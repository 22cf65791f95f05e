"""Broken losses, a file for each group of clauses: the tests of the tests."""

from tests.mutants import (
    averaging,
    context,
    derivatives,
    edges,
    forms,
    invariances,
    meaning,
    parameters,
    persistence,
    refusals,
    transforms,
    usual_parameters,
)

GROUPS = (
    meaning,
    averaging,
    context,
    derivatives,
    edges,
    forms,
    invariances,
    parameters,
    persistence,
    refusals,
    transforms,
    usual_parameters,
)
MUTANTS = [mutant for group in GROUPS for mutant in group.MUTANTS]
