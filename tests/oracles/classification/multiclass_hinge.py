"""Hinge loss of several classes: scikit-learn, torch's multi-margin loss, and a loop over samples and classes."""

from __future__ import annotations

import numpy as np
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracles.case import Answer, OracleCase, numpied
from tests.oracles.classification.cross_entropy import classes

WESTON_WATKINS = {"form": "weston_watkins"}


def loop(margin: float = 1.0, power: int = 1, *, all_rivals: bool = False) -> Answer:
    def items(scores: Tensor, target: Tensor) -> Tensor:
        values = []
        for row, label in zip(scores.movedim(1, -1).reshape(-1, scores.shape[1]), target.flatten(), strict=True):
            short = [
                torch.clamp(margin - row[label] + row[rival], min=0) ** power
                for rival in range(len(row))
                if rival != label
            ]
            values.append(torch.stack(short).sum() if all_rivals else torch.stack(short).max())
        return torch.stack(values).reshape(target.shape)

    return items


def multi_margin(margin: float = 1.0, power: int = 1) -> Answer:
    def items(scores: Tensor, target: Tensor) -> Tensor:
        return scores.shape[1] * F.multi_margin_loss(scores, target, p=power, margin=margin, reduction="none")

    return items


def scikit_learn(scores: np.ndarray, target: np.ndarray) -> float:
    return sklearn.metrics.hinge_loss(target, scores, labels=list(range(scores.shape[1])))


MULTICLASS_HINGE = [
    OracleCase("scikit_learn", classes(), value=numpied(scikit_learn), differentiable=False),
    OracleCase("loop", classes(), items=loop()),
    OracleCase("squared", classes(), {"power": 2}, items=loop(power=2)),
    OracleCase("margin", classes(), {"margin": 2.5}, items=loop(2.5)),
    OracleCase("positions", classes(3, size=2), {"power": 2, "margin": 0.5}, items=loop(0.5, 2)),
    OracleCase("torch", classes(), WESTON_WATKINS, items=multi_margin()),
    OracleCase("torch_squared", classes(), {**WESTON_WATKINS, "power": 2}, items=multi_margin(power=2)),
    OracleCase("torch_margin", classes(), {**WESTON_WATKINS, "margin": 0.3}, items=multi_margin(0.3)),
    OracleCase("loop_of_all_rivals", classes(2, size=3), WESTON_WATKINS, items=loop(all_rivals=True)),
]
