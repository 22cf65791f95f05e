"""Every loss on a GPU: the contract, the values and gradients of the CPU, and no waiting for a value."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.checking.case import HALVES, LARGE, SINGLE, SIZE, Case, cases_of, require_near, several_blocks
from losses.checking.parametrizing import ClauseTest, parametrize_with_clauses
from losses.core.inputs import Batch
from losses.core.outputs import tensors_in
from tools.on_accelerator import computing_on, on

CUDA = torch.cuda.is_available()
NAMES = losses.available() if CUDA else []
pytestmark = pytest.mark.skipif(not CUDA, reason="there is no GPU")


@parametrize_with_clauses(NAMES)
def test_contract(loss: str, clause: ClauseTest) -> None:
    with computing_on("cuda"):
        clause(loss)


def calls(name: str) -> Iterator[tuple[Case, Batch, dict[str, Any]]]:
    """Yield a loss's cases with batches, small and large, and weights for them, on the CPU."""
    for case, size in itertools.product(cases_of(name), (SIZE, LARGE)):
        if size == SIZE or case.is_default:
            batch = case.batch(size)
            yield case, batch, {}
            items = case.with_reduction("none")(*batch)
            if items.ndim and len(items) == size:
                yield case, batch, {"weight": torch.linspace(0, 2, size, dtype=torch.float64)}


def run(case: Case, batch: Batch, options: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    there = Case(copy.deepcopy(case.loss).cuda(), case.kind)
    return there.run(on("cuda", batch), **on("cuda", options))


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_the_cpu(name: str) -> None:
    for case, batch, options in calls(name):
        expected, others = case.run(batch, **options)
        for blocks in (several_blocks,) if len(tensors_in(batch.output)[0]) == SIZE else (several_blocks, None):
            value, gradients = run_in(blocks, case, batch, options)
            assert value.device.type == "cuda"
            require_near(str(case), value.cpu(), expected)
            for gradient, other in zip(gradients, others, strict=True):
                assert gradient.device.type == "cuda"
                require_near(f"gradient of {case}", gradient.cpu(), other, 1e-7)


def run_in(blocks: Any, case: Case, batch: Batch, options: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    if blocks is None:
        return run(case, batch, options)
    with blocks():
        return run(case, batch, options)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_near(name: str) -> None:
    for case in cases_of(name):
        expected, _ = case.run(case.batch(precision=SINGLE))
        for half in HALVES:
            value, gradients = run(case, case.batch(precision=half), {})
            assert all(bool(part.isfinite().all()) for part in (value, *gradients))
            torch.testing.assert_close(value.cpu().float(), expected.float(), rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_waited_for(name: str) -> None:
    for case, batch, options in calls(name):
        there = Case(copy.deepcopy(case.loss).cuda(), case.kind)
        batch, options = on("cuda", batch), on("cuda", options)
        there.run(batch, **options)  # the first batch is looked at
        try:
            torch.cuda.set_sync_debug_mode("error")
            there.run(batch, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_algorithms_are_enough(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        for case, batch, options in calls(name):
            run(case, batch, options)
    finally:
        torch.use_deterministic_algorithms(False)
