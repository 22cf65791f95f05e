"""Generalized cross-entropy: a loop over samples from Zhang & Sabuncu 2018, and cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracles.case import Answer, OracleCase
from tests.oracles.classification.cross_entropy import classes


def loop(q: float = 0.7, ignored: int = -100) -> dict[str, Answer]:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        values = []
        for row, label in zip(logits.movedim(1, -1).reshape(-1, logits.shape[1]), target.flatten(), strict=True):
            if label == ignored:
                values.append(row.sum() * 0)
                continue
            prob = row[label].exp() / row.exp().sum()
            values.append((1 - prob**q) / q)
        return torch.stack(values).reshape(target.shape)

    def value(logits: Tensor, target: Tensor) -> Tensor:
        return items(logits, target).sum() / (target != ignored).sum()

    return {"items": items, "value": value}


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, reduction="none")


def absolute(logits: Tensor, target: Tensor) -> Tensor:
    """Half the absolute error between probabilities and the one-hot target, added up over classes."""
    return (logits.softmax(1) - F.one_hot(target, logits.shape[1])).abs().sum(1) / 2


GENERALIZED_CROSS_ENTROPY = [
    OracleCase("loop", classes(), items=loop()["items"]),
    OracleCase("q", classes(), {"q": 0.25}, items=loop(0.25)["items"]),
    OracleCase("q_zero_is_cross_entropy", classes(), {"q": 0.0}, items=cross_entropy),
    OracleCase("q_one_is_absolute_error", classes(), {"q": 1.0}, items=absolute),
    OracleCase("positions", classes(3, 2, size=2), items=loop()["items"]),
    OracleCase("ignored", classes(share_ignored=0.5), **loop()),
    OracleCase("ignore_index", classes(2, share_ignored=0.4, ignored=1), {"ignore_index": 1}, **loop(ignored=1)),
]
