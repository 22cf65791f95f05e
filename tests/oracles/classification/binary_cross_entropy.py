"""Binary cross-entropy: torch's own, scikit-learn, and a loop over elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tests.oracles.case import Answer, OracleBatch, OracleCase, coin, normal, numpied, uniform


def questions(kind: str) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        logits = normal(random, 5, 3)
        target = uniform(random, 5, 3) if kind == "probabilities" else coin(random, 5, 3)
        return OracleBatch(logits, target.long() if kind == "integers" else target)

    return draw


def torch_binary(positive_weight: list[float] | float | None = None) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        weight = None if positive_weight is None else torch.as_tensor(positive_weight, dtype=torch.float64)
        return F.binary_cross_entropy_with_logits(logits, target.double(), pos_weight=weight, reduction="none")

    return items


def binary_loop(smoothing: float = 0.0, positive_weight: list[float] | float = 1.0) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        weights = torch.as_tensor(positive_weight, dtype=torch.float64).expand(logits.shape[-1])
        rows = []
        for row, wanted in zip(logits, target.double(), strict=True):
            for weight, logit, t in zip(weights, row, wanted, strict=True):
                prob = 1 / (1 + torch.exp(-logit))
                t = t * (1 - smoothing) + smoothing / 2
                rows.append(-weight * t * prob.log() - (1 - t) * (1 - prob).log())
        return torch.stack(rows).reshape(logits.shape)

    return items


def sklearn_binary(logits: np.ndarray, target: np.ndarray) -> float:
    return sklearn.metrics.log_loss(target.ravel(), scipy.special.expit(logits.ravel()), labels=[False, True])


BINARY_CROSS_ENTROPY = [
    OracleCase("torch", questions("probabilities"), items=torch_binary()),
    OracleCase("integers", questions("integers"), items=torch_binary()),
    OracleCase("booleans", questions("booleans"), items=torch_binary()),
    OracleCase("scikit_learn", questions("booleans"), value=numpied(sklearn_binary), differentiable=False),
    OracleCase("smoothing", questions("booleans"), {"label_smoothing": 0.2}, items=binary_loop(0.2)),
    OracleCase("positive_weight", questions("probabilities"), {"positive_weight": 2.5}, items=torch_binary(2.5)),
    OracleCase(
        "positive_weight_list",
        questions("integers"),
        {"positive_weight": [0.5, 2.0, 1.5]},
        items=torch_binary([0.5, 2.0, 1.5]),
    ),
    OracleCase(
        "smoothing_positive_weight",
        questions("probabilities"),
        {"label_smoothing": 0.3, "positive_weight": [0.5, 2.0, 0.0]},
        items=binary_loop(0.3, [0.5, 2.0, 0.0]),
    ),
]
