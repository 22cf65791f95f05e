"""Multi-similarity: a loop over anchors, and pytorch-metric-learning with its miner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Generator, Tensor, stack

from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.adapters.pytorch_metric_learning import miners as pml_miners
from tests.oracles.case import Answer, OracleBatch, OracleCase
from tests.oracles.metric.batches import (
    LABELLED,
    MINED,
    WITH_CONTEXT,
    cosines_of,
    labelled,
    pairs_of,
    pml,
    tuple_as_pairs,
    with_reference,
)


def hard_pairs(near: list[Tensor], far: list[Tensor], epsilon: float) -> tuple[list[Tensor], list[Tensor]]:
    """Wang et al. 2019, eq. 11 and 12: what is compared with an extreme of nobody is not taken."""
    least = min((s.item() for s in near), default=float("inf"))
    most = max((s.item() for s in far), default=-float("inf"))
    return [s for s in near if s.item() < most + epsilon], [s for s in far if s.item() > least - epsilon]


def multi_similarity_loop(
    alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, mining_epsilon: float | None = None
) -> Answer:
    """Wang et al. 2019, eq. 16, anchor by anchor."""

    def items(output: Tensor, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        rows = []
        for anchor in range(len(output)):
            near, far = (cosines_of(output, others, sorted(set(side)), anchor) for side in (positive, negative))
            if mining_epsilon is not None:
                near, far = hard_pairs(near, far, mining_epsilon)
            one = output[anchor].sum() * 0 + 1
            pull = sum(((-alpha * (s - base)).exp() for s in near), start=one)
            push = sum(((beta * (s - base)).exp() for s in far), start=one)
            rows.append(pull.log() / alpha + push.log() / beta)
        return stack(rows)

    return items


def multi_similarity_case(name: str, draw: Callable[[Generator], OracleBatch], **parameters: Any) -> OracleCase:
    return OracleCase(name, draw, parameters, items=multi_similarity_loop(**parameters))


def pml_mined(epsilon: float, **parameters: Any) -> Answer:
    """Return the loss over the pairs that the miner takes. It is 0 where each of the two lists holds at most one."""
    loss, miner = pml_losses.MultiSimilarityLoss(**parameters), pml_miners.MultiSimilarityMiner(epsilon=epsilon)

    def value(embeddings: Tensor, labels: Tensor, reference: Any = None) -> Tensor:
        others = (None, None) if reference is None else reference
        indices = miner(embeddings, labels, *others)
        assert any(len(places) > 1 for places in indices)
        return loss(embeddings, labels, indices, *others)

    return value


SETTINGS = ((2.0, 50.0, 0.5), (1.0, 1.0, 1.0), (0.3, 8.0, -0.2), (10.0, 40.0, 0.9))

MULTI_SIMILARITY = [
    multi_similarity_case("default", LABELLED),
    *(
        multi_similarity_case(
            f"alpha_{alpha:g}_beta_{beta:g}_base_{base:g}", LABELLED, alpha=alpha, beta=beta, base=base
        )
        for alpha, beta, base in SETTINGS[1:]
    ),
    *(
        multi_similarity_case(f"epsilon_{epsilon:g}", LABELLED, beta=10.0, mining_epsilon=epsilon)
        for epsilon in (0.0, 0.1, 0.5, 3.0)
    ),
    *(
        multi_similarity_case(f"{name}_epsilon_{epsilon}", draw, alpha=3.0, beta=10.0, mining_epsilon=epsilon)
        for name, draw in (("large", labelled(size=12, count=5)), *WITH_CONTEXT)
        for epsilon in (None, 0.3)
    ),
    multi_similarity_case("one_class", labelled(size=5, count=1)),
    *(
        OracleCase(
            f"pml_{name}_alpha_{alpha:g}_beta_{beta:g}_base_{base:g}",
            draw,
            {"alpha": alpha, "beta": beta, "base": base},
            value=pml(pml_losses.MultiSimilarityLoss(alpha=alpha, beta=beta, base=base)),
        )
        for alpha, beta, base in SETTINGS[::3]
        for name, draw in MINED
    ),
    *(
        OracleCase(
            f"pml_mined_{name}_epsilon_{epsilon:g}",
            draw,
            {"beta": 10.0, "mining_epsilon": epsilon},
            value=pml_mined(epsilon, beta=10.0),
        )
        for epsilon in (0.05, 0.3)
        for name, draw in (("batch", labelled(size=20, count=5)), ("reference", with_reference(labelled(size=9))))
    ),
]
