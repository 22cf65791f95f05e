"""What a loss learns and nobody trains: said once, and never to those who accumulate gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.peers.pml_parameters import PARAMETERS
from losses.adapters.pml import stepping
from losses.distributed import GlobalBatch
from tests.adapters.pml_cases import batch, call_ours, ours

PATIENCE = 20
LEARNING = [name for name, given in PARAMETERS.items() if {"num_classes", "K"} & given.keys()]
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PATIENCE", PATIENCE)


def passes(loss: nn.Module, count: int) -> None:
    """Go back through the loss a number of times."""
    embeddings, labels = batch()
    for _ in range(count):
        call_ours(loss, embeddings, labels).backward()


@pytest.mark.parametrize("name", LEARNING)
def test_parameters_without_a_step_are_told_of_once(name: str) -> None:
    loss = ours(name)
    passes(loss, PATIENCE)
    with pytest.warns(UserWarning, match=rf"module\.|\w+ of pml.{name} had {PATIENCE} backward passes and no step"):
        passes(loss, PATIENCE + 1)
    passes(loss, 3 * PATIENCE)


@pytest.mark.parametrize("name", LEARNING)
def test_parameters_that_are_trained_are_not_told_of(name: str) -> None:
    loss = ours(name)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-6)
    for _ in range(8):  # steps, each of which more is accumulated for than between two looks
        passes(loss, PATIENCE // 2)
        optimizer.step()
        optimizer.zero_grad()


def old_step(parameter: nn.Parameter) -> None:
    parameter.data.add_(parameter.grad, alpha=-1e-3)  # type: ignore[arg-type]  # there is one


def new_data(parameter: nn.Parameter) -> None:
    assert parameter.grad is not None
    parameter.data = parameter.data - 1e-3 * parameter.grad


@pytest.mark.parametrize("step", [old_step, new_data])
def test_however_a_step_is_taken(step: Any) -> None:
    loss = ours("ArcFaceLoss")
    for _ in range(6):
        passes(loss, PATIENCE // 2)
        for parameter in loss.parameters():
            step(parameter)


@pytest.mark.parametrize("case", ["frozen", "evaluating", "without a gradient", "nothing to learn"])
def test_who_does_not_train_it_on_purpose_hears_nothing(case: str) -> None:
    loss = ours("TripletMarginLoss" if case == "nothing to learn" else "ArcFaceLoss")
    if case == "frozen":
        loss.requires_grad_(False)
    if case == "evaluating":
        loss.eval()
    if case == "without a gradient":
        embeddings, labels = batch()
        with torch.no_grad():
            for _ in range(3 * PATIENCE):
                loss(embeddings, labels)
        return
    passes(loss, 3 * PATIENCE)


def test_it_counts_within_a_global_batch_and_in_a_copy() -> None:
    loss = ours("ProxyNCALoss")
    passes(GlobalBatch(loss), PATIENCE)
    other = copy.deepcopy(loss)
    for each in (GlobalBatch(loss), other):
        with pytest.warns(UserWarning, match="an optimizer has to get the parameters of the loss too"):
            passes(each, PATIENCE + 1)
