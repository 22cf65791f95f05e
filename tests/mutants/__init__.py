"""Broken losses, a file for each group of clauses: the tests of the tests."""

from tests.mutants import (
    averaging,
    context,
    derivatives,
    edges,
    invariances,
    meaning,
    persistence,
    refusals,
    transforms,
)

GROUPS = (meaning, averaging, context, derivatives, edges, invariances, persistence, refusals, transforms)
MUTANTS = [mutant for group in GROUPS for mutant in group.MUTANTS]
