"""Cosine embedding: torch's own, on every list of pairs."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses import Pairs
from tests.oracles.case import Answer, OracleCase
from tests.oracles.metric.batches import (
    LABELLED,
    given_pairs,
    some_pairs,
    some_triplets,
    tuple_as_pairs,
    with_indices,
    with_reference,
)
from tests.oracles.metric.contrastive import contrastive_loop


def torch_cosine_embedding(margin: float = 0.0) -> Answer:
    def items(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            first, second, same = output.first, output.second, target > 0
        else:
            others, other_labels = (output, target) if reference is None else reference
            if indices is not None:
                positive, negative = (list(pairs) for pairs in tuple_as_pairs(indices))
                listed, same = positive + negative, torch.arange(len(positive) + len(negative)) < len(positive)
            else:
                both = itertools.product(range(len(output)), range(len(others)))
                listed = [(i, j) for i, j in both if reference is not None or i < j]
                same = torch.tensor([bool(target[i] == other_labels[j]) for i, j in listed])
            first = torch.stack([output[i] for i, _ in listed])
            second = torch.stack([others[j] for _, j in listed])
        return F.cosine_embedding_loss(first, second, torch.where(same, 1, -1), margin=margin, reduction="none")

    return items


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosines of rows that are not 0, of any length: torch adds 1e-12 to the squared lengths."""
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


def formula(output: Any, target: Tensor) -> Tensor:
    if isinstance(output, Pairs):
        cosines, same = cosine(*output), target > 0
    else:
        first, second = torch.triu_indices(len(output), len(output), 1)
        cosines, same = cosine(output[first], output[second]), target[first] == target[second]
    return torch.where(same, 1 - cosines, cosines.clamp(min=0))


COSINE_EMBEDDING = [
    *(
        OracleCase(f"formula_{form}", draw, items=formula)
        for form, draw in (("pairs", given_pairs), ("batch", LABELLED))
    ),
    *(
        OracleCase(f"torch_{form}_{margin}", draw, {"margin": margin}, items=torch_cosine_embedding(margin))
        for form, draw in (("pairs", given_pairs), ("batch", LABELLED))
        for margin in (0.0, 0.3, -0.5)
    ),
    *(
        OracleCase(f"torch_{name}", draw, {"margin": 0.2}, items=torch_cosine_embedding(0.2))
        for name, draw in (
            ("indices_of_triplets", with_indices(LABELLED, some_triplets)),
            ("indices_of_pairs", with_indices(LABELLED, some_pairs)),
            ("reference", with_reference(LABELLED)),
            ("reference_indices", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    OracleCase("contrastive_loop", LABELLED, {"margin": 0.2}, items=contrastive_loop(0.8, power=1, distance="cosine")),
]
