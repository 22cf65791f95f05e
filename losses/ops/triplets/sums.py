"""What every sum over triplets counts: the triplets that still cost something, and all there are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.parameters import Average
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums


class TripletSums(NamedTuple):
    """The cost of triplets, and how many still cost something and how many there are (or their weights)."""

    cost: Tensor
    active: Tensor
    triplets: Tensor

    def over(self, average: Average) -> TileSums:
        """Return the cost with the denominator that an average asks for."""
        return TileSums([self.cost], [self.active if average == "active" else self.triplets])


def no_triplets(classes: Classes, weight: Tensor | None, negatives: Tensor | None = None) -> TripletSums:
    """Return sums of 0, with the triplets counted, which needs no distances: ``negatives`` ``(N,)`` for each positive,
    by default all."""
    each = (classes.positives * (classes.negatives if negatives is None else negatives)).double()
    triplets = each.sum() if weight is None else (each * weight.squeeze(1)).sum()
    return TripletSums(torch.zeros_like(triplets), torch.zeros_like(triplets), triplets)
