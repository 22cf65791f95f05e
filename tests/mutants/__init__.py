"""Broken losses, a file for each group of clauses: the tests of the tests."""

from tests.mutants import (
    averaging,
    context,
    derivatives,
    edges,
    invariances,
    meaning,
    normalizers,
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
    context,
    weights,
    normalizers,
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
