"""Quantile: one or many, what it predicts, and lists that do not fit."""

from typing import Any

import pytest
import torch

import losses
from losses import ConfigError, QuantileLoss
from losses.regression.quantile import pinball
from tests.gradients import backward
from tests.refusals import refused

SEVERAL = [0.125, 0.5, 0.75]


def test_several_quantiles_keep_the_contract() -> None:
    losses.check_loss(QuantileLoss(quantile=SEVERAL)).raise_for_failures()


def test_a_list_is_its_quantiles_one_by_one() -> None:
    prediction, target = torch.randn(6, 2, 3), torch.randn(6, 2)
    items = QuantileLoss(quantile=SEVERAL, reduction="none")(prediction, target)
    each = [QuantileLoss(quantile=q, reduction="none")(prediction[..., i], target) for i, q in enumerate(SEVERAL)]
    torch.testing.assert_close(items, torch.stack(each, -1))


def test_what_it_predicts_is_the_quantile() -> None:
    """The best constants for a thousand numbers lie where a fraction of the numbers is below."""
    numbers = torch.randn(1000, dtype=torch.float64)
    loss = QuantileLoss(quantile=[0.1, 0.5, 0.9])
    prediction = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for step in range(2000):
        (slope,) = torch.autograd.grad(loss(prediction.expand(1000, 3), numbers), prediction)
        with torch.no_grad():
            prediction -= slope * 3 / (1 + step / 50)
    below = (numbers.unsqueeze(1) < prediction).double().mean(0)
    assert below.tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.005)


def test_one_half_is_half_the_absolute_error() -> None:
    prediction, target = torch.randn(2, 9)
    torch.testing.assert_close(
        2 * losses.create("pinball")(prediction, target), losses.create("mae")(prediction, target)
    )


def test_the_gradient_at_the_target_lies_between_the_slopes_beside_it() -> None:
    for quantile in (0.1, 0.5, 0.9):
        _, gradient = backward(QuantileLoss(quantile=quantile, reduction="sum"), torch.zeros(2), torch.zeros(2))
        assert gradient.tolist() == pytest.approx([0.5 - quantile] * 2)


@pytest.mark.parametrize("quantile", [0.5, 0.9, SEVERAL], ids=str)
def test_a_large_batch_in_blocks_is_its_items(quantile: Any) -> None:
    shape = (70_000, 3)
    prediction = torch.randn(shape, dtype=torch.float64).round(decimals=1).requires_grad_()  # some hit the target
    target = torch.randn(shape if isinstance(quantile, float) else shape[:1], dtype=torch.float64).round(decimals=1)
    weight = torch.rand(shape[:1], dtype=torch.float64)
    loss, several = QuantileLoss(quantile=quantile), isinstance(quantile, list)
    for each in (None, weight):
        wanted = target.unsqueeze(1).expand(shape) if several else target
        items = pinball(prediction, wanted, quantile=torch.tensor(quantile, dtype=torch.float64))
        mean = items.mean() if each is None else (items * each.unsqueeze(1)).sum() / (3 * each.sum())
        value = loss(prediction, target, weight=each)
        torch.testing.assert_close(value, mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            *(torch.autograd.grad(part, prediction)[0] for part in (value, mean)), rtol=1e-12, atol=1e-18
        )


def test_a_sample_without_a_weight_counts_for_no_quantile() -> None:
    prediction, target = torch.randn(4, 3), torch.tensor([1.0, torch.nan, 0.5, 2.0])
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0])
    value, gradient = backward(QuantileLoss(quantile=SEVERAL), prediction, target, weight=weight)
    kept = [0, 2, 3]
    torch.testing.assert_close(
        value, QuantileLoss(quantile=SEVERAL)(prediction[kept], target[kept], weight=weight[kept])
    )
    assert not gradient[1].any()


@pytest.mark.parametrize("quantile", [[0.9, 0.1], [0.1, 0.5, 0.5]], ids=str)
def test_a_list_that_does_not_rise_is_refused(quantile: list[float]) -> None:
    with refused([f"got {quantile[-1]:g} after {quantile[-2]:g}", "rising", "sort"], ConfigError):
        QuantileLoss(quantile=quantile)


@pytest.mark.parametrize("quantile", [0, 1, 1.5, [], [0.0, 0.5], [0.5, 1.0], "median", True], ids=str)
def test_what_is_not_between_0_and_1_is_refused(quantile: Any) -> None:
    with refused(["quantile", "between 0 and 1, both excluded", "list"], ConfigError):
        QuantileLoss(quantile=quantile)


def test_a_prediction_of_other_quantiles_is_refused_with_the_shape_that_was_expected() -> None:
    loss = QuantileLoss(quantile=SEVERAL)
    for prediction in (torch.zeros(5, 2), torch.zeros(5), torch.zeros(3, 5)):
        with refused(["3 quantiles", "(5, 3)", "last layer"]):
            loss(prediction, torch.zeros(5))
