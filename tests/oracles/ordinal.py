"""Ordinal: a loop over samples and thresholds in Python floats, and torch's binary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tests.oracles.case import OracleBatch, OracleCase, normal


def ranked(classes: int, *positions: int) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        size, *rest = positions
        return OracleBatch(
            normal(random, size, classes - 1, *rest), torch.randint(classes, positions, generator=random)
        )

    return draw


def cao_loop(logits: Tensor, target: Tensor) -> Tensor:
    """Cao, Mirjalili, Raschka 2020, eq. 4, without weights of tasks: minus the log-likelihood of every answer."""
    values = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        total = 0.0
        for k, z in enumerate(row):
            yes = 1 / (1 + math.exp(-z))
            total -= math.log(yes) if label > k else math.log(1 - yes)
        values.append(total)
    return torch.tensor(values, dtype=torch.float64)


def torch_binary_answers(logits: Tensor, target: Tensor) -> Tensor:
    """Torch's loss of one threshold after the other."""
    answers = [
        F.binary_cross_entropy_with_logits(logits[:, k], (target > k).double(), reduction="none")
        for k in range(logits.shape[1])
    ]
    return torch.stack(answers).sum(0)


ORDINAL = [
    OracleCase("cao_loop", ranked(5, 7), items=cao_loop, differentiable=False),
    OracleCase("two_classes", ranked(2, 6), items=cao_loop, differentiable=False),
    OracleCase("torch", ranked(4, 9), items=torch_binary_answers),
    OracleCase("torch_positions", ranked(4, 2, 3), items=torch_binary_answers),
]
