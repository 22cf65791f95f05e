"""Circle: a loop over anchors, and pytorch-metric-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from losses import Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from tests.oracles.case import Answer, OracleBatch, OracleCase, active
from tests.oracles.metric.batches import (
    LABELLED,
    MINED,
    WITH_CONTEXT,
    apart,
    given_pairs,
    pairs_of,
    pml,
    tuple_as_pairs,
)


def circle_row(positive: list[Tensor], negative: list[Tensor], margin: float, scale: float) -> Tensor:
    """Sun et al. 2020, eq. 6, with the weights of eq. 5 held constant; optima and margins as in section 3.2."""
    pull = [torch.exp(-scale * max(0.0, 1 + margin - s.item()) * (s - (1 - margin))) for s in positive]
    push = [torch.exp(scale * max(0.0, s.item() + margin) * (s - margin)) for s in negative]
    return torch.log(1 + sum(push) * sum(pull))


def circle_loop(margin: float = 0.4, scale: float = 80.0) -> Answer:
    def items(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            similarity = [1 - apart(a, b, "cosine") for a, b in zip(*output, strict=True)]
            sides = [
                [s for s, same in zip(similarity, target > 0, strict=True) if same == side] for side in (True, False)
            ]
            return circle_row(*sides, margin, scale).unsqueeze(0)
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        rows = []
        for anchor in range(len(output)):
            near, far = (
                [1 - apart(output[i], others[j], "cosine") for i, j in sorted(set(s)) if i == anchor]
                for s in (positive, negative)
            )
            rows.append(circle_row(near, far, margin, scale) if near and far else output[anchor].sum() * 0)
        return torch.stack(rows)

    return items


def circle_case(name: str, draw: Callable[[Generator], OracleBatch], **parameters: Any) -> OracleCase:
    return OracleCase(name, draw, parameters, items=circle_loop(**parameters), denominators=active, paced=True)


def pml_circle(margin: float, scale: float) -> Answer:
    return pml(pml_losses.CircleLoss(m=margin, gamma=scale))


CIRCLE = [
    circle_case("default", LABELLED),
    circle_case("pairs", given_pairs, scale=10.0),
    *(
        circle_case(f"margin_{m}_scale_{s:g}", LABELLED, margin=m, scale=s)
        for m, s in ((0.25, 128.0), (0.1, 4.0), (-0.1, 4.0), (0.0, 1.0))
    ),
    *(circle_case(name, draw, margin=0.25, scale=16.0) for name, draw in WITH_CONTEXT),
    *(
        OracleCase(
            f"pml_{name}_margin_{m}_scale_{s:g}",
            draw,
            {"margin": m, "scale": s},
            value=pml_circle(m, s),
            paced=True,
        )
        for m, s in ((0.4, 80.0), (0.25, 16.0))
        for name, draw in MINED
    ),
]
