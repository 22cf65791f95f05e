"""Focal loss: loops over elements and positions from Lin et al. 2017, and torch's cross-entropies where gamma is 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracles.case import Answer, OracleCase
from tests.oracles.classification.binary_cross_entropy import questions, torch_binary
from tests.oracles.classification.cross_entropy import class_probabilities, classes, torch_cross_entropy

ALPHAS = [0.5, 2.0, 0.25, 1.5, 0.0]
CLASSES = {"form": "multiclass"}


def binary_loop(gamma: float = 2.0, alpha: float | None = None) -> Answer:
    """The expectation over the target of equation 5 of the paper; of equation 4 without alpha."""
    of_yes, of_no = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def items(logits: Tensor, target: Tensor) -> Tensor:
        values = []
        for logit, t in zip(logits.flatten(), target.double().flatten(), strict=True):
            p = 1 / (1 + torch.exp(-logit))
            values.append(-t * of_yes * (1 - p) ** gamma * p.log() - (1 - t) * of_no * p**gamma * (1 - p).log())
        return torch.stack(values).reshape(logits.shape)

    return items


def loop(gamma: float = 2.0, alphas: list[float] | None = None, ignored: int = -100) -> dict[str, Answer]:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        count = logits.shape[1]
        rows = logits.movedim(1, -1).reshape(-1, count)
        soft = target.is_floating_point()
        wanted = target.movedim(1, -1).reshape(-1, count) if soft else target.flatten()
        values = []
        for row, right in zip(rows, wanted, strict=True):
            value = row.sum() * 0
            for label in range(count):
                share = right[label] if soft else float(right == label and right != ignored)
                p = row[label].exp() / row.exp().sum()
                value = value - share * (1.0 if alphas is None else alphas[label]) * (1 - p) ** gamma * p.log()
            values.append(value)
        return torch.stack(values).reshape(logits[:, 0].shape)

    def value(logits: Tensor, target: Tensor) -> Tensor:
        each = items(logits, target)
        return each.mean() if target.is_floating_point() else each.sum() / (target != ignored).sum()

    return {"items": items, "value": value}


def weighted_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """With gamma 0 alpha weighs the classes, but not in the denominator of the mean."""
    return F.cross_entropy(logits, target, torch.tensor(ALPHAS, dtype=torch.float64), reduction="none")


FOCAL = [
    OracleCase("loop", questions("booleans"), items=binary_loop()),
    OracleCase("probabilities", questions("probabilities"), items=binary_loop()),
    OracleCase("integers_alpha", questions("integers"), {"alpha": 0.25}, items=binary_loop(2.0, 0.25)),
    OracleCase("alpha_zero", questions("booleans"), {"alpha": 0.0, "gamma": 1.0}, items=binary_loop(1.0, 0.0)),
    OracleCase("gamma_below_one", questions("probabilities"), {"gamma": 0.3}, items=binary_loop(0.3)),
    OracleCase("gamma_zero_is_binary", questions("probabilities"), {"gamma": 0.0}, items=torch_binary()),
    OracleCase("classes", classes(), CLASSES, items=loop()["items"]),
    OracleCase("classes_gamma", classes(), {**CLASSES, "gamma": 0.3}, items=loop(0.3)["items"]),
    OracleCase("gamma_zero_is_cross_entropy", classes(), {**CLASSES, "gamma": 0.0}, **torch_cross_entropy()),
    OracleCase("gamma_zero_alpha", classes(), {**CLASSES, "gamma": 0.0, "alpha": ALPHAS}, items=weighted_cross_entropy),
    OracleCase(
        "gamma_zero_is_cross_entropy_of_probabilities",
        class_probabilities(),
        {**CLASSES, "gamma": 0.0},
        **torch_cross_entropy(),
    ),
    OracleCase("class_probabilities", class_probabilities(sparse=True), CLASSES, items=loop()["items"]),
    OracleCase(
        "class_probabilities_alpha", class_probabilities(2, size=3), {**CLASSES, "alpha": ALPHAS}, **loop(2.0, ALPHAS)
    ),
    OracleCase("positions_alpha", classes(3, 2, size=2), {**CLASSES, "alpha": ALPHAS}, **loop(2.0, ALPHAS)),
    OracleCase("ignored", classes(share_ignored=0.5), CLASSES, **loop()),
    OracleCase(
        "ignore_index",
        classes(2, share_ignored=0.4, ignored=1),
        {**CLASSES, "ignore_index": 1, "alpha": ALPHAS},
        **loop(2.0, ALPHAS, 1),
    ),
]
