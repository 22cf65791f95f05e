"""Supervised contrast: a loop over anchors, and pytorch-metric-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from losses.adapters.pytorch_metric_learning import losses as pml_losses
from tests.oracles.case import Answer, OracleBatch, OracleCase, active
from tests.oracles.metric.batches import (
    LABELLED,
    MINED,
    WITH_CONTEXT,
    cosines_of,
    labelled,
    pairs_of,
    pml,
    tuple_as_pairs,
)


def supcon_loop(temperature: float = 0.1) -> Answer:
    """Khosla et al. 2020, eq. 2, anchor by anchor."""

    def items(output: Tensor, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        rows = []
        for anchor in range(len(output)):
            near = cosines_of(output, others, sorted(set(positive)), anchor)
            everything = cosines_of(output, others, sorted({*positive, *negative}), anchor)
            if not near or len(everything) == 1:
                rows.append(output[anchor].sum() * 0)
                continue
            partition = sum(torch.exp(s / temperature) for s in everything)
            rows.append(-sum(torch.log(torch.exp(s / temperature) / partition) for s in near) / len(near))
        return torch.stack(rows)

    return items


def supcon_case(name: str, draw: Callable[[Generator], OracleBatch], **parameters: Any) -> OracleCase:
    return OracleCase(name, draw, parameters, items=supcon_loop(**parameters), denominators=active)


SUPERVISED_CONTRASTIVE = [
    supcon_case("default", LABELLED),
    *(supcon_case(f"temperature_{t:g}", LABELLED, temperature=t) for t in (0.05, 0.5, 1.0, 20.0)),
    *(
        supcon_case(name, draw, temperature=0.3)
        for name, draw in (
            ("one_class", labelled(size=5, count=1)),
            *WITH_CONTEXT,
        )
    ),
    *(
        OracleCase(
            f"pml_{name}_temperature_{t:g}", draw, {"temperature": t}, value=pml(pml_losses.SupConLoss(temperature=t))
        )
        for t in (0.1, 0.7)
        for name, draw in MINED
    ),
]
