"""Ordinal: far misses, positions, the predicted class, and classes that do not exist."""

import pytest
import torch
from torch import Tensor

import losses
from losses import OrdinalLoss
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def logits_for(labels: Tensor, classes: int, size: float = 4.0) -> Tensor:
    """Return logits that answer every question right."""
    return torch.where(labels.unsqueeze(1) > torch.arange(classes - 1), size, -size)


def test_a_far_miss_costs_more_than_a_near_one() -> None:
    predicted, target = torch.zeros(5, dtype=torch.long), torch.arange(5)
    items = OrdinalLoss(reduction="none")(logits_for(predicted, 5), target)
    assert (items.diff() > 1).all()


def test_the_number_of_answers_that_are_yes_is_the_class() -> None:
    labels = torch.arange(5)
    logits = logits_for(labels, 5)
    assert torch.equal((logits > 0).sum(1), labels)
    assert OrdinalLoss()(logits, labels) < 0.1


def test_a_network_of_one_number_and_biases_learns_the_order() -> None:
    """CORAL: the same number for every threshold, with a bias each; the biases come out in order."""
    scores, labels = torch.linspace(-2, 2, 200), torch.arange(5).repeat_interleave(40)
    slope, bias = torch.ones((), requires_grad=True), torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([slope, bias], lr=0.2)
    loss = OrdinalLoss()
    for _ in range(200):
        optimizer.zero_grad()
        logits = (slope * scores).unsqueeze(1) + bias
        loss(logits, labels).backward()
        optimizer.step()
    assert (bias.diff() < 0).all()
    assert ((logits > 0).sum(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_logits_are_finite(dtype: torch.dtype) -> None:
    for sign in (1e4, -1e4):
        backward(OrdinalLoss(), torch.full((3, 4), sign, dtype=dtype), torch.tensor([0, 2, 4]))


def test_positions_are_items() -> None:
    logits, target = torch.randn(2, 4, 3, 5), torch.randint(5, (2, 3, 5))
    items = OrdinalLoss(reduction="none")(logits, target)
    flat = OrdinalLoss(reduction="none")(logits.movedim(1, -1).reshape(-1, 4), target.flatten())
    torch.testing.assert_close(items.flatten(), flat)


def test_one_threshold_is_binary_cross_entropy() -> None:
    logits, target = torch.randn(9, 1), torch.randint(2, (9,))
    torch.testing.assert_close(
        OrdinalLoss()(logits, target), losses.create("binary_cross_entropy")(logits[:, 0], target)
    )


@pytest.mark.parametrize("target", [torch.tensor([0, 5]), torch.tensor([-1, 2])], ids=["above", "below"])
def test_a_class_that_no_threshold_bounds_is_refused(target: Tensor) -> None:
    with refused(["target holds class", "5 classes", "0 to 4"]):
        OrdinalLoss()(torch.zeros(2, 4), target)


def test_answers_in_place_of_classes_are_refused_with_the_fix() -> None:
    for answers in (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.long)):
        with refused(["class indices", "(2,)", "target"]):
            OrdinalLoss()(torch.zeros(2, 4), answers)
