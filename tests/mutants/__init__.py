"""Broken losses, a file for each group of clauses: the tests of the tests."""

from tests.mutants import (
    averaging,
    derivatives,
    edges,
    invariances,
    meaning,
    persistence,
    refusals,
    state,
    surroundings,
    transforms,
    weights,
)

GROUPS = (
    meaning,
    averaging,
    weights,
    derivatives,
    edges,
    invariances,
    persistence,
    refusals,
    state,
    surroundings,
    transforms,
)
MUTANTS = [mutant for group in GROUPS for mutant in group.MUTANTS]
