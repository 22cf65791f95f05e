"""Every loss where a CPU is taken for an accelerator: the values, gradients and promises of the CPU itself."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import losses
from losses.checking.case import EXACT, HALVES, SINGLE, SIZE, Case, Precision, cases_of, in_precision, require_near
from losses.checking.parametrizing import ClauseTest, parametrize_with_clauses
from losses.core.inputs import Batch
from tests.accelerator.pretended import accelerator

PROMISES = (
    "zero_weight_hides",
    "all_weights_zero",
    "weights_agree",
    "weighted_definition_equals_fast_path",
    "scale_of_weights",
    "second_derivative",
)


def calls(name: str) -> Iterator[tuple[Case, Batch, dict[str, Any]]]:
    """Yield a loss's cases with batches, and with weights of which some are 0."""
    for case in cases_of(name):
        batch = case.batch()
        yield case, batch, {}
        items = case.with_reduction("none")(*batch)
        if items.ndim and len(items) == SIZE:
            yield case, batch, {"weight": torch.linspace(0, 2, SIZE, dtype=torch.float64).roll(3)}


@pytest.mark.parametrize(("precision", "tolerance"), [(EXACT, 1e-9), (SINGLE, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("name", losses.available())
def test_values_and_gradients_are_those_of_the_cpu(name: str, precision: Precision, tolerance: float) -> None:
    for case, batch, options in calls(name):
        expected, others = case.run(batch, **options)
        with accelerator():
            value, gradients = case.run(in_precision(batch, precision), **options)
        require_near(str(case), value, expected, tolerance)
        for gradient, other in zip(gradients, others, strict=True):
            require_near(f"gradient of {case}", gradient, other, tolerance)


@pytest.mark.parametrize("name", losses.available())
def test_half_precision_is_near(name: str) -> None:
    for case in cases_of(name):
        for half in HALVES:
            batch = case.batch(precision=half)
            expected, others = case.run(batch)
            with accelerator():
                value, gradients = case.run(batch)
            for part, other in zip((value, *gradients), (expected, *others), strict=True):
                assert bool(part.isfinite().all())
                torch.testing.assert_close(part.float(), other.float(), rtol=0.02, atol=0.02)


@parametrize_with_clauses(losses.available(), clauses=PROMISES)
def test_promises(loss: str, clause: ClauseTest) -> None:
    with accelerator():
        clause(loss)
