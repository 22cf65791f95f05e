"""Broken losses, a file for each group of clauses: the tests of the tests."""

from tests.mutants import (
    averaging,
    context,
    derivatives,
    edges,
    forms,
    invariances,
    meaning,
    normalizers,
    parameters,
    persistence,
    refusals,
    seldom,
    state,
    surroundings,
    transforms,
    usual_parameters,
    weights,
)

GROUPS = (
    meaning,
    averaging,
    context,
    weights,
    normalizers,
    derivatives,
    edges,
    forms,
    invariances,
    parameters,
    persistence,
    refusals,
    seldom,
    state,
    surroundings,
    transforms,
    usual_parameters,
)
MUTANTS = [mutant for group in GROUPS for mutant in group.MUTANTS]
