"""Hinge loss: scikit-learn, and a loop over elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sklearn.metrics
import torch
from torch import Generator, Tensor

from tests.oracles.case import Answer, OracleBatch, OracleCase, coin, normal, numpied


def decisions(kind: str) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        scores, yes = normal(random, 7, 2), coin(random, 7, 2)
        targets = {"zero_one": yes.long(), "signs": yes.long() * 2 - 1, "booleans": yes, "floats": yes.double() * 2 - 1}
        return OracleBatch(scores, targets[kind])

    return draw


def hinge_loop(margin: float = 1.0, power: int = 1) -> Answer:
    def items(scores: Tensor, target: Tensor) -> Tensor:
        values = []
        for score, wanted in zip(scores.flatten(), target.flatten(), strict=True):
            sign = 1 if wanted > 0 else -1
            values.append(torch.clamp(margin - sign * score, min=0) ** power)
        return torch.stack(values).reshape(scores.shape)

    return items


def sklearn_hinge(scores: np.ndarray, target: np.ndarray) -> float:
    return sklearn.metrics.hinge_loss(target.ravel(), scores.ravel())


HINGE = [
    *(
        OracleCase(f"scikit_learn_{kind}", decisions(kind), value=numpied(sklearn_hinge), differentiable=False)
        for kind in ("zero_one", "signs")
    ),
    *(
        OracleCase(f"loop_{kind}", decisions(kind), items=hinge_loop())
        for kind in ("zero_one", "signs", "booleans", "floats")
    ),
    OracleCase("margin", decisions("zero_one"), {"margin": 0.3}, items=hinge_loop(0.3)),
    OracleCase("squared", decisions("booleans"), {"power": 2}, items=hinge_loop(1, 2)),
    OracleCase("squared_margin", decisions("signs"), {"margin": 2.5, "power": 2}, items=hinge_loop(2.5, 2)),
]
