"""Contrastive: a loop over pairs, and pytorch-metric-learning."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from losses import Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from tests.oracles.case import Answer, OracleBatch, OracleCase, active
from tests.oracles.metric.batches import (
    LABELLED,
    PML_DISTANCES,
    PML_MINERS,
    apart,
    given_pairs,
    labelled,
    pml,
    some_pairs,
    some_triplets,
    tuple_as_pairs,
    with_indices,
    with_reference,
)


def contrastive_loop(
    margin: float = 1.0, positive_margin: float = 0.0, power: int = 2, distance: str = "euclidean"
) -> Answer:
    """Hadsell, Chopra, LeCun 2006, eq. 4, pair by pair; without a square for power=1."""

    def cost(first: Tensor, second: Tensor, same: bool) -> Tensor:
        d = apart(first, second, distance)
        excess = torch.clamp(d - positive_margin if same else margin - d, min=0)
        return excess**2 / 2 if power == 2 else excess

    def items(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            return torch.stack([cost(a, b, bool(same)) for a, b, same in zip(*output, target > 0, strict=True)])
        others, other_labels = (output, target) if reference is None else reference
        if indices is not None:
            positive, negative = tuple_as_pairs(indices)
            return torch.stack(
                [
                    cost(output[i], others[j], same)
                    for same, pairs in ((True, positive), (False, negative))
                    for i, j in pairs
                ]
            )
        pairs = itertools.product(range(len(output)), range(len(others)))
        wanted = [(i, j) for i, j in pairs if reference is not None or i < j]
        return torch.stack([cost(output[i], others[j], bool(target[i] == other_labels[j])) for i, j in wanted])

    return items


def balanced(items: Answer) -> Answer:
    """Return the mean over active pairs of one class plus the mean over active pairs of two, from a loop over pairs."""

    def value(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        costs = items(output, target, indices=indices, reference=reference)
        if isinstance(output, Pairs):
            same = target > 0
        elif indices is not None:
            same = torch.arange(len(costs)) < len(indices[0])
        else:
            _, other_labels = (output, target) if reference is None else reference
            grid = target.unsqueeze(1) == other_labels
            same = grid.flatten() if reference is not None else grid[*torch.triu_indices(len(target), len(target), 1)]
        sides = [costs[side & (costs > 0)] for side in (same, ~same)]
        return sum((side.mean() for side in sides if len(side)), start=costs.sum() * 0)

    return value


def pml_contrastive(margin: float = 1.0, positive_margin: float = 0.0, distance: str = "euclidean") -> Answer:
    if distance == "cosine":  # a similarity there, 1 - similarity here
        margin, positive_margin = 1 - margin, 1 - positive_margin
    return pml(
        pml_losses.ContrastiveLoss(pos_margin=positive_margin, neg_margin=margin, distance=PML_DISTANCES[distance])
    )


def contrastive_case(
    name: str, draw: Callable[[Generator], OracleBatch], average: str = "all", **parameters: Any
) -> OracleCase:
    items = contrastive_loop(**parameters)
    mean: dict[str, Any] = {"all": {}, "active": {"denominators": active}, "balanced": {"value": balanced(items)}}[
        average
    ]
    return OracleCase(name, draw, {**parameters, "average": average}, items=items, **mean)


CONTRASTIVE = [
    contrastive_case("hadsell", LABELLED, margin=2.0),
    contrastive_case("hadsell_pairs", given_pairs, margin=2.0),
    *(
        contrastive_case(
            f"{form}_{distance}_{average}_power_{power}",
            draw,
            average,
            distance=distance,
            power=power,
            margin=margin,
            **more,
        )
        for form, draw in (("batch", LABELLED), ("pairs", given_pairs))
        for distance, margin in (("euclidean", 2.0), ("squared_euclidean", 5.0), ("cosine", 0.8))
        for average in ("all", "active", "balanced")
        for power, more in ((1, {"positive_margin": 0.25}), (2, {}))
    ),
    contrastive_case("positive_margin_squared", LABELLED, "active", margin=2.0, positive_margin=0.5),
    *(
        contrastive_case(f"{name}_{average}", draw, average, margin=2.5, power=power)
        for average, power in (("all", 2), ("active", 1), ("balanced", 1), ("balanced", 2))
        for name, draw in (
            (f"indices_of_triplets_power_{power}", with_indices(LABELLED, some_triplets)),
            (f"indices_of_pairs_power_{power}", with_indices(LABELLED, some_pairs)),
            (f"reference_power_{power}", with_reference(LABELLED)),
            (f"reference_indices_power_{power}", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    *(
        OracleCase(
            f"pml_{distance}_{name}",
            draw,
            {"margin": margin, "positive_margin": 0.25, "power": 1, "average": "balanced", "distance": distance},
            value=pml_contrastive(margin, 0.25, distance),
        )
        for distance, margin in (("euclidean", 2.0), ("squared_euclidean", 5.0), ("cosine", 0.8))
        for name, draw in (
            ("batch", labelled(size=20, count=5)),
            ("reference", with_reference(LABELLED)),
            *((name, with_indices(labelled(size=12, count=4), miner)) for name, miner in PML_MINERS.items()),
            ("reference_miner", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
        )
    ),
]
