"""Every clause there is, one file for each group of them; the order is that of the support page."""

from losses.checking.clauses import (
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
    state,
    surroundings,
    transforms,
    usual_parameters,
    weights,
)

__all__ = [
    "averaging",
    "context",
    "derivatives",
    "edges",
    "forms",
    "invariances",
    "meaning",
    "parameters",
    "persistence",
    "refusals",
    "state",
    "surroundings",
    "transforms",
    "usual_parameters",
    "weights",
]
