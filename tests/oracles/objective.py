"""Oracles of objectives: each loss by torch, added up by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tests.oracles.case import OracleBatch, OracleCase, normal


def of_one_prediction(random: Generator) -> OracleBatch:
    return OracleBatch(normal(random, 6), normal(random, 6).detach())


def of_two_heads(random: Generator) -> OracleBatch:
    logits, image = normal(random, 5, 3), normal(random, 5, 2, 2)
    target = {"label": torch.randint(3, (5,), generator=random), "image": normal(random, 5, 2, 2).detach()}
    return OracleBatch({"logits": logits, "image": image}, target, leaves=(logits, image))


def heads(weight: float, squared: Callable[[Tensor, Tensor], Tensor] = F.mse_loss) -> Callable[[Any, Any], Tensor]:
    """Return the cross-entropy of one head and a weight times what the other one misses."""

    def value(output: Any, target: Any) -> Tensor:
        return F.cross_entropy(output["logits"], target["label"]) + weight * squared(output["image"], target["image"])

    return value


CLASSIFIED = {"loss": "cross_entropy", "output": "logits", "target": "label"}
MADE_AGAIN = {"loss": "mse", "output": "image", "target": "image"}
WEIGHTED_SUM = [
    OracleCase(
        "one_prediction",
        of_one_prediction,
        {"terms": ["mse", {"loss": "mae", "weight": 0.5}]},
        items=lambda output, target: (output - target) ** 2 + 0.5 * (output - target).abs(),
    ),
    OracleCase("two_heads", of_two_heads, {"terms": [CLASSIFIED, MADE_AGAIN | {"weight": -0.3}]}, value=heads(-0.3)),
    OracleCase(
        "first_step_of_a_schedule",
        of_two_heads,
        {"terms": [CLASSIFIED, MADE_AGAIN | {"weight": {"schedule": "linear", "start": 2, "end": 0, "steps": 5}}]},
        value=heads(2.0),
    ),
    OracleCase(
        "learned_weight_at_first",
        of_two_heads,
        {"terms": [CLASSIFIED, MADE_AGAIN | {"weight": "uncertainty"}]},
        value=heads(1.0),
    ),
]
