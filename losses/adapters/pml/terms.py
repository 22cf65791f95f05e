"""What a loss of pytorch-metric-learning adds up: its terms, each a mean over items, before anything is reduced.

A term is a list of items with the anchor of each: an element of the batch, a pair or a triplet. Reducers there say over
which of them the mean is; a mean over items is taken here, so that weights, sums and normalizers mean what they mean in
every loss. What its reducers cannot say item by item is one number, which is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.adapters.pytorch_metric_learning import reducers
from losses.core.precision import accumulated, matched
from losses.core.reduction import Total, total_of, weighted


class Averaged(NamedTuple):
    """Over which items a reducer takes the mean: those between two bounds, and as how many they count in it."""

    low: float | None = None
    high: float | None = None
    by_divisor: bool = False
    """Whether the loss says itself what the sum is divided by."""


class Term(NamedTuple):
    """The items of one mean."""

    values: Tensor
    """``(T,)``; of what is one number already, ``()``."""
    anchors: Tensor | None
    """The row of the batch that each item is of; ``None`` where the items are of no row."""
    counted: Tensor | None = None
    """What each item adds to the denominator of the mean; ``None`` is 1."""
    divisor: Tensor | int | None = None
    """The denominator, where the loss says it."""

    @property
    def is_reduced(self) -> bool:
        return not self.values.ndim

    @property
    def takes_weights(self) -> bool:
        return self.anchors is not None and self.divisor is None

    def total(self, weight: Tensor | None) -> Total:
        """Return the sum of the items and what their mean divides it by."""
        if self.is_reduced:
            return Total(self.values, 1)
        if self.divisor is not None:
            return Total(self.values.sum(), self.divisor)
        return total_of(self.values, self.weights(weight), self.counted)

    def weights(self, weight: Tensor | None) -> Tensor | None:
        return None if weight is None or self.anchors is None else weight[self.anchors]


def averaged_by(reducer: Any) -> Averaged | None:
    """Return over which items a reducer takes the mean; ``None`` where it does something else."""
    if type(reducer) in (reducers.AvgNonZeroReducer, reducers.ThresholdReducer):
        return Averaged(getattr(reducer, "low", 0), getattr(reducer, "high", None))
    if type(reducer) is reducers.DivisorReducer:
        return Averaged(by_divisor=True)
    return Averaged() if type(reducer) is reducers.MeanReducer else None


class Averages:
    """Over which items the mean of every term of a loss is, by the term's name."""

    def __init__(self, by_name: Mapping[str, Averaged], otherwise: Averaged) -> None:
        self._by_name, self._otherwise = dict(by_name), otherwise

    def of(self, name: str) -> Averaged:
        return self._by_name.get(name, self._otherwise)


def averages_of(reducer: Any) -> Averages | None:
    """Return over which items the means of a loss with this reducer are; ``None`` where it does something else."""
    if type(reducer) is not reducers.MultipleReducers:
        only = averaged_by(reducer)
        return None if only is None else Averages({}, only)
    found = {name: averaged_by(part) for name, part in reducer.reducers.items()}
    by_name = {name: averaged for name, averaged in found.items() if averaged is not None}
    otherwise = averaged_by(reducer.default_reducer)
    return None if otherwise is None or len(by_name) < len(found) else Averages(by_name, otherwise)


def terms_in(said: Mapping[str, Mapping[str, Any]], averages: Averages, nothing: Tensor) -> list[Term]:
    """Return the terms of what a loss has computed.

    Args:
        said: by the name of a term its ``losses``, their ``indices`` and perhaps a ``divisor``.
        averages: over which items each mean is.
        nothing: ``(0,)``, the items of a term that has none, a part of the graph.
    """
    return [term_in(part, averages.of(name), nothing) for name, part in said.items()]


def term_in(part: Mapping[str, Any], averaged: Averaged, nothing: Tensor) -> Term:
    values, indices = part["losses"], part.get("indices")
    if not isinstance(values, Tensor) or not values.numel():  # 0 stands for no items
        return Term(nothing, nothing.detach().long())
    values = matched(values, nothing)  # SmoothAPLoss makes float32 of anything
    if indices is None or not values.ndim:
        return Term(values.reshape(()), None)
    anchors = indices[0] if isinstance(indices, tuple | list) else indices
    values = values.flatten()
    if averaged.by_divisor:
        return Term(values, anchors, divisor=part["divisor"])
    counted = torch.ones_like(values, dtype=torch.bool)
    if averaged.low is not None:
        counted &= values.detach() > averaged.low
    if averaged.high is not None:
        counted &= values.detach() < averaged.high
    if averaged == Averaged():
        return Term(values, anchors)
    return Term(values.masked_fill(~counted, 0), anchors, counted.to(values.dtype))


def total_over(terms: Sequence[Term], weight: Tensor | None) -> Total:
    """Return the total of a loss: of several terms one entry for each, whose means are added."""
    totals = [term.total(weight) for term in terms]
    if len(totals) == 1:
        return totals[0]
    sums = torch.stack([total.sum for total in totals])
    denominators = [accumulated(torch.as_tensor(total.denominator, device=sums.device)) for total in totals]
    return Total(sums, torch.stack(denominators))


def items_over(terms: Sequence[Term], weight: Tensor | None) -> Tensor:
    """Return the items of all terms, one term after the other, each times its weight."""
    return torch.cat([weighted(term.values, term.weights(weight)).reshape(-1) for term in terms])
