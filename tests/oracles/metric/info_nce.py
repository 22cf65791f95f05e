"""InfoNCE: a loop over rows, CLIP's two cross-entropies, and pytorch-metric-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from losses import Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from tests.oracles.case import Answer, OracleBatch, OracleCase, normal
from tests.oracles.metric.batches import (
    LABELLED,
    MINED,
    WITH_CONTEXT,
    apart,
    cosines_of,
    pairs_of,
    pml,
    some_pairs,
    some_triplets,
    tuple_as_pairs,
    with_indices,
)


def matching_rows(random: Generator) -> OracleBatch:
    return OracleBatch(Pairs(normal(random, 5, 3), normal(random, 5, 3)), None)


def info_nce_row(positive: Tensor, negative: list[Tensor], temperature: float) -> Tensor:
    """van den Oord et al. 2018, eq. 4, with the density ratio exp(cosine / temperature) of the later papers."""
    ratio = torch.exp(positive / temperature)
    return -torch.log(ratio / (ratio + sum(torch.exp(s / temperature) for s in negative)))


def info_nce_loop(temperature: float = 0.1, negatives: str = "second", direction: str = "both") -> Answer:
    def of_pairs(pairs: Pairs) -> Tensor:
        rows = []
        for anchors, partners in [tuple(pairs), tuple(pairs)[::-1]][: 2 if direction == "both" else 1]:
            for i in range(len(anchors)):
                others = [
                    side[j]
                    for side in ((partners, anchors) if negatives == "both" else (partners,))
                    for j in range(len(side))
                    if j != i
                ]
                near, *far = (1 - apart(anchors[i], other, "cosine") for other in (partners[i], *others))
                rows.append(info_nce_row(near, far, temperature))
        return torch.stack(rows)

    def items(output: Any, target: Any, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            return of_pairs(output)
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        return torch.stack(
            [
                info_nce_row(
                    *cosines_of(output, others, [(i, j)], i), cosines_of(output, others, negative, i), temperature
                )
                for i, j in positive
            ]
        )

    return items


def clip(temperature: float, direction: str = "both") -> Answer:
    """Radford et al. 2021, figure 3: two cross-entropies on the matrix of similarities."""

    def items(pairs: Pairs, target: None) -> Tensor:
        first, second = (F.normalize(side, dim=1) for side in pairs)
        logits, match = first @ second.T / temperature, torch.arange(len(first))
        ways = [logits, logits.T][: 2 if direction == "both" else 1]
        return torch.cat([F.cross_entropy(way, match, reduction="none") for way in ways])

    return items


def simclr(temperature: float) -> Answer:
    def value(pairs: Pairs, target: None) -> Tensor:
        return pml_losses.NTXentLoss(temperature=temperature)(
            torch.cat(pairs), torch.arange(len(pairs.first)).repeat(2)
        )

    return value


def info_nce_case(name: str, draw: Callable[[Generator], OracleBatch], **parameters: Any) -> OracleCase:
    return OracleCase(name, draw, parameters, items=info_nce_loop(**parameters))


INFO_NCE = [
    info_nce_case("default", LABELLED),
    *(info_nce_case(f"temperature_{t:g}", LABELLED, temperature=t) for t in (0.05, 0.5, 1.0, 20.0)),
    *(
        info_nce_case(
            f"pairs_{negatives}_{direction}", matching_rows, negatives=negatives, direction=direction, temperature=0.5
        )
        for negatives in ("second", "both")
        for direction in ("both", "forward")
    ),
    OracleCase("pairs_clip", matching_rows, items=clip(0.1)),
    OracleCase(
        "pairs_clip_forward", matching_rows, {"temperature": 0.3, "direction": "forward"}, items=clip(0.3, "forward")
    ),
    OracleCase("pairs_pml_simclr", matching_rows, {"temperature": 0.3, "negatives": "both"}, value=simclr(0.3)),
    *(info_nce_case(name, draw, temperature=0.3) for name, draw in WITH_CONTEXT),
    *(
        OracleCase(
            f"pml_{name}_temperature_{t:g}", draw, {"temperature": t}, value=pml(pml_losses.NTXentLoss(temperature=t))
        )
        for t in (0.1, 0.7)
        for name, draw in (
            *MINED,
            ("listed_triplets", with_indices(LABELLED, some_triplets)),
            ("listed_pairs", with_indices(LABELLED, some_pairs)),
        )
    ),
]
