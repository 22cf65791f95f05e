"""Memory bank: one that has remembered nothing is the loss that it is made of, whose oracles are asked again. What it
remembers is asked step by step in ``tests/metric/test_memory_bank.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from tests.oracles.case import OracleCase, drawn
from tests.oracles.metric.circle import CIRCLE
from tests.oracles.metric.contrastive import CONTRASTIVE
from tests.oracles.metric.supervised_contrastive import SUPERVISED_CONTRASTIVE
from tests.oracles.metric.triplet import TRIPLET


def of_labelled_batches(cases: list[OracleCase], most: int) -> list[OracleCase]:
    """Return the first of the cases whose batches have labels, and the first that has a reference and indices."""
    labelled = [case for case in cases if isinstance(case.draw(drawn(0)).output, Tensor)]
    chosen = labelled[:most]
    for name in ("reference", "indices"):
        chosen += [case for case in labelled[most:] if name in case.draw(drawn(0)).options][:1]
    return chosen


def around(name: str, case: OracleCase, **parameters: Any) -> OracleCase:
    nested = {"loss": {"name": name, **case.parameters}, **parameters}
    return replace(case, id="_".join([name, case.id, *parameters]), parameters=nested)


MEMORY_BANK = [
    around(name, case)
    for name, cases in {
        "contrastive": CONTRASTIVE,
        "triplet": TRIPLET,
        "circle": CIRCLE,
        "supervised_contrastive": SUPERVISED_CONTRASTIVE,
    }.items()
    for case in of_labelled_batches(cases, 3)
]
MEMORY_BANK += [
    around("supervised_contrastive", SUPERVISED_CONTRASTIVE[0], **parameters)
    for parameters in ({"capacity": 3}, {"dimension": 3}, {"warmup_steps": 2}, {"enqueue": "own"})
]
