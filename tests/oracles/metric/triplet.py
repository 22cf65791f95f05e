"""Triplet: a loop over triplets, torch's own, and pytorch-metric-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from losses import Triplets
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.adapters.pytorch_metric_learning import reducers as pml_reducers
from tests.oracles.case import Answer, OracleBatch, OracleCase, active
from tests.oracles.metric.batches import (
    LABELLED,
    PML_DISTANCES,
    PML_MINERS,
    apart,
    given_triplets,
    labelled,
    pml,
    some_pairs,
    some_triplets,
    triplets_of,
    tuple_as_pairs,
    with_indices,
    with_reference,
)


def mined(
    distances: Tensor, labels: Tensor, other_labels: Tensor, has_reference: bool, mining: str
) -> list[tuple[int, int, int]]:
    """Return the triplets that count, found by comparing every candidate with every other."""
    triplets = list(triplets_of(labels, other_labels, has_reference))
    if mining == "all":
        return triplets
    chosen = []
    for anchor in range(len(labels)):
        near = sorted({p for a, p, _ in triplets if a == anchor})
        far = sorted({n for a, _, n in triplets if a == anchor})
        if not near:
            continue
        if mining == "hard":  # Hermans et al. 2017, eq. 5
            chosen.append(
                (anchor, max(near, key=lambda p: distances[anchor, p]), min(far, key=lambda n: distances[anchor, n]))
            )
            continue
        for p in near:  # Schroff et al. 2015, section 3.2, as in FaceNet's own code
            farther = [n for n in far if distances[anchor, n] > distances[anchor, p]]
            if farther:
                chosen.append((anchor, p, min(farther, key=lambda n: distances[anchor, n])))
            else:
                chosen.append((anchor, p, max(far, key=lambda n: distances[anchor, n])))
    return chosen


def triplet_loop(
    margin: float | str = 0.2, distance: str = "euclidean", mining: str = "all", swap: bool = False
) -> Answer:
    def cost(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near, far = apart(anchor, positive, distance), apart(anchor, negative, distance)
        if swap:
            far = torch.minimum(far, apart(positive, negative, distance))
        return torch.log1p(torch.exp(near - far)) if margin == "soft" else torch.clamp(near - far + margin, min=0)

    def items(output: Any, target: Tensor | None, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Triplets):
            return torch.stack([cost(*row) for row in zip(*output, strict=True)])
        others, other_labels = (output, target) if reference is None else reference
        if indices is not None:
            positive, negative = tuple_as_pairs(indices)
            triplets = (
                list(zip(*(column.tolist() for column in indices), strict=True))
                if len(indices) == 3
                else [(a, p, n) for a, p in positive for b, n in negative if a == b]
            )
        else:
            distances = torch.stack([torch.stack([apart(a, b, distance) for b in others]) for a in output]).detach()
            triplets = mined(distances, target, other_labels, reference is not None, mining)
        if not triplets:
            return output.sum(1)[:0]
        return torch.stack([cost(output[a], others[p], others[n]) for a, p, n in triplets])

    return items


def triplet_case(
    name: str, draw: Callable[[Generator], OracleBatch], average: str = "active", **parameters: Any
) -> OracleCase:
    denominators = {"denominators": active} if average == "active" else {}
    return OracleCase(name, draw, {**parameters, "average": average}, items=triplet_loop(**parameters), **denominators)


def torch_triplet(distance: str, margin: float, swap: bool) -> Answer:
    def items(output: Triplets, target: None) -> Tensor:
        if distance == "euclidean":
            return F.triplet_margin_loss(*output, margin=margin, eps=0.0, swap=swap, reduction="none")
        functions = {
            "squared_euclidean": lambda a, b: (a - b).square().sum(1),
            "cosine": lambda a, b: 1 - F.cosine_similarity(a, b),
        }
        return F.triplet_margin_with_distance_loss(
            *output, distance_function=functions[distance], margin=margin, swap=swap, reduction="none"
        )

    return items


def pml_triplet(margin: float | str, distance: str, average: str = "active", swap: bool = False) -> Answer:
    reducer = pml_reducers.AvgNonZeroReducer() if average == "active" else pml_reducers.MeanReducer()
    soft = margin == "soft"
    return pml(
        pml_losses.TripletMarginLoss(
            margin=0.0 if soft else margin,
            smooth_loss=soft,
            swap=swap,
            distance=PML_DISTANCES[distance],
            reducer=reducer,
        )
    )


MARGINS = {"euclidean": 0.8, "squared_euclidean": 2.0, "cosine": 0.3}
TRIPLET = [
    triplet_case("facenet_default", LABELLED),
    *(
        triplet_case(f"{mining}_{distance}_{margin}", LABELLED, mining=mining, distance=distance, margin=margin)
        for mining in ("all", "hard", "semi_hard")
        for distance, number in MARGINS.items()
        for margin in (number, "soft")
    ),
    *(
        triplet_case(
            f"{mining}_average_all_swap_{swap}_{margin}", LABELLED, "all", mining=mining, margin=margin, swap=swap
        )
        for mining in ("all", "hard", "semi_hard")
        for margin in (0.8, "soft")
        for swap in (False, True)
    ),
    *(
        triplet_case(f"{mining}_swap_{distance}", LABELLED, mining=mining, margin=margin, swap=True, distance=distance)
        for mining in ("all", "hard", "semi_hard")
        for distance, margin in MARGINS.items()
    ),
    *(
        triplet_case(
            f"{mining}_reference_{margin}_swap_{swap}",
            with_reference(LABELLED),
            mining=mining,
            margin=margin,
            swap=swap,
        )
        for mining in ("all", "hard", "semi_hard")
        for margin in (0.8, "soft")
        for swap in (False, True)
    ),
    triplet_case("margin_zero", LABELLED, margin=0.0),
    triplet_case("imbalanced", labelled(size=9, count=2), margin=0.8, mining="semi_hard"),
    *(
        triplet_case(f"{name}_{average}", draw, average, margin=margin, swap=swap)
        for average, margin, swap in (("all", 0.8, True), ("active", 0.8, False), ("active", "soft", False))
        for name, draw in (
            (f"given_{margin}", given_triplets),
            (f"indices_of_triplets_{margin}", with_indices(LABELLED, some_triplets)),
            (f"indices_of_pairs_{margin}", with_indices(LABELLED, some_pairs)),
            (f"reference_indices_{margin}", with_indices(with_reference(LABELLED), some_triplets)),
        )
    ),
    *(
        OracleCase(
            f"torch_{distance}_swap_{swap}",
            given_triplets,
            {"distance": distance, "margin": margin, "swap": swap, "average": "all"},
            items=torch_triplet(distance, margin, swap),
        )
        for distance, margin in MARGINS.items()
        for swap in (False, True)
    ),
    *(
        OracleCase(
            f"pml_{distance}_{margin}_{average}_swap_{swap}",
            labelled(size=20, count=5),
            {"distance": distance, "margin": margin, "average": average, "swap": swap},
            value=pml_triplet(margin, distance, average, swap),
        )
        for distance, number in MARGINS.items()
        for margin in (number, "soft")
        for average in ("active", "all")
        for swap in (False, True)
    ),
    *(
        OracleCase(
            f"pml_miner_{name}",
            with_indices(labelled(size=12, count=4), miner),
            {"margin": 0.8},
            value=pml_triplet(0.8, "euclidean"),
        )
        for name, miner in PML_MINERS.items()
    ),
    OracleCase(
        "pml_batch_hard",
        labelled(size=12, count=4),
        {"margin": 0.8, "mining": "hard"},
        value=lambda embeddings, labels: pml_triplet(0.8, "euclidean")(
            embeddings, labels, indices=PML_MINERS["batch_hard"](embeddings.detach(), labels)
        ),
    ),
    OracleCase("pml_reference", with_reference(LABELLED), {"margin": 0.8}, value=pml_triplet(0.8, "euclidean")),
]
