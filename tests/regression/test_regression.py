"""What the losses of predictions share: nothing is broadcast, missing targets, and residuals of any size."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from losses import ConfigError, InputError, Pairs, VAEOutput
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LOSSES = [("mse", {}), ("mae", {}), ("huber", {}), ("huber", {"delta": 0.25}), ("log_cosh", {})]
each_loss = pytest.mark.parametrize(
    ("name", "parameters"), LOSSES, ids=["mse", "mae", "huber", "huber_quarter", "log_cosh"]
)


def log_cosh_lines(prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
    return (prediction - target).cosh().log()


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_prediction_and_target_is_zero_with_zero_gradient(
    name: str, parameters: Any, reduction: str, dtype: torch.dtype
) -> None:
    value, gradient = backward(
        losses.create(name, **parameters, reduction=reduction), torch.ones(3, dtype=dtype), torch.ones(3)
    )
    assert not value.any()
    assert not gradient.any()


@each_loss
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_residual_of_ten_thousand_is_finite(name: str, parameters: Any, dtype: torch.dtype) -> None:
    for reduction in ("mean", "none"):
        backward(
            losses.create(name, **parameters, reduction=reduction),
            torch.tensor([1e4, -1e4], dtype=dtype),
            torch.zeros(2),
        )


@each_loss
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_an_empty_batch_is_zero_with_a_graph(name: str, parameters: Any, shape: tuple[int, ...]) -> None:
    value, gradient = backward(losses.create(name, **parameters), torch.zeros(shape), torch.zeros(shape))
    assert value == 0
    assert gradient.shape == shape


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_missing_targets_of_weight_zero_change_nothing(name: str, parameters: Any, reduction: str) -> None:
    prediction, target = torch.tensor([1.0, 2.0, torch.nan, 7.0]), torch.tensor([0.0, torch.nan, 1.0, 4.0])
    weight = torch.tensor([1.0, 0.0, 0.0, 1.0])
    function = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss, "log_cosh": log_cosh_lines}[name]
    kept = function(prediction[[0, 3]], target[[0, 3]], reduction="none", **parameters)
    expected = {
        "mean": kept.mean(),
        "sum": kept.sum(),
        "none": torch.stack([kept[0], kept[0] * 0, kept[0] * 0, kept[1]]),
    }[reduction]
    value, gradient = backward(
        losses.create(name, **parameters, reduction=reduction), prediction, target, weight=weight
    )
    torch.testing.assert_close(value, expected)
    assert gradient[1] == gradient[2] == 0


@each_loss
def test_one_weight_per_sample_is_the_same_as_one_per_output(name: str, parameters: Any) -> None:
    prediction, target, weight = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4)
    loss = losses.create(name, **parameters)
    torch.testing.assert_close(
        loss(prediction, target, weight=weight), loss(prediction, target, weight=weight[:, None].expand(4, 3).clone())
    )


@each_loss
@pytest.mark.parametrize("normalizer", [15, 15.0, torch.tensor(15), torch.tensor(15.0)], ids=repr)
def test_half_batches_over_the_number_of_elements_give_the_whole_gradient(
    name: str, parameters: Any, normalizer: Any
) -> None:
    prediction, target = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    _, whole = backward(losses.create(name, **parameters), prediction, target)
    parts = (slice(0, 1), slice(1, 5))
    halves = [
        backward(losses.create(name, **parameters), prediction[p], target[p], normalizer=normalizer)[1] for p in parts
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


@each_loss
def test_totals_of_parts_add_up_to_the_mean(name: str, parameters: Any) -> None:
    prediction, target, weight = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5)
    loss = losses.create(name, **parameters)
    totals = [loss.total(prediction[p], target[p], weight=weight[p]) for p in (slice(0, 1), slice(1, 5))]
    mean = sum(total.sum for total in totals) / sum(total.denominator for total in totals)
    torch.testing.assert_close(mean, loss(prediction, target, weight=weight))


@pytest.mark.parametrize("size", [1001, 70_000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_in_half_precision_are_summed_in_single(size: int, dtype: torch.dtype) -> None:
    value = losses.create("mse")(torch.full((size,), 2.0), torch.zeros(size), weight=torch.ones(size, dtype=dtype))
    assert value == 4


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float64], ids=str)
def test_a_mask_of_any_type_is_a_weight(dtype: torch.dtype) -> None:
    prediction, target = torch.tensor([1.0, 3.0, 5.0]), torch.zeros(3)
    assert losses.create("mae")(prediction, target, weight=torch.tensor([1, 0, 1]).to(dtype)) == 3


@each_loss
@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        (torch.randn(4, 1), torch.randn(4), ["(4, 1)", "(4,)", "prediction.squeeze(-1)"]),
        (torch.randn(4), torch.randn(4, 1), ["(4, 1)", "(4,)", "target.squeeze(-1)"]),
        (torch.randn(4, 2), torch.randn(2), ["(4, 2)", "(2,)", "nothing is broadcast"]),
        (torch.ones(3, dtype=torch.long), torch.ones(3), ["prediction", "int64", "prediction.float()"]),
        (torch.ones(3), torch.ones(3, dtype=torch.long), ["target", "int64", "target.float()"]),
        (torch.tensor([torch.nan, 1.0]), torch.ones(2), ["NaN", "1 of 2", "weight of 0"]),
        (torch.ones(2), torch.tensor([torch.nan, torch.nan]), ["target", "NaN", "2 of 2"]),
        (torch.ones(2), [1.0, 1.0], ["target", "a list"]),
        (torch.ones(2), None, ["target", "None"]),
        (Pairs(torch.randn(3, 4), torch.randn(3, 4)), torch.ones(3), ["prediction", "Pairs", "(3, 4)"]),
        (VAEOutput(*torch.randn(3, 2, 2)), torch.ones(3), ["prediction", "VAEOutput"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    name: str, parameters: Any, prediction: Any, target: Any, words: Any
) -> None:
    with refused(words):
        losses.create(name, **parameters)(prediction, target)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.ones(2), ["(2,)", "(3, 2)", "leading index"]),
        (torch.ones(3, 1), ["(3, 1)", "(3, 2)"]),
        (torch.tensor([1.0, -1.0, 1.0]), ["weight", "-1"]),
        (torch.tensor([1.0, torch.nan, 1.0]), ["weight", "NaN"]),
        ([1.0, 0.0, 1.0], ["weight", "a list"]),
    ],
    ids=["too_short", "broadcast", "negative", "nan", "list"],
)
def test_a_wrong_weight_is_refused(weight: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("mse")(torch.randn(3, 2), torch.randn(3, 2), weight=weight)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_normalizer_without_a_mean_is_refused(reduction: str) -> None:
    with pytest.raises(InputError, match=f"normalizer.*{reduction}"):
        losses.create("mse", reduction=reduction)(torch.ones(2), torch.ones(2), normalizer=2)


def test_context_of_other_losses_is_refused() -> None:
    with pytest.raises(TypeError, match="indices"):
        losses.create("mse")(torch.ones(2), torch.ones(2), indices=(0, 1, 2))


def test_smooth_l1_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"huber\(delta=beta\) / beta"):
        losses.create("smooth_l1")


def test_the_gradient_of_huber_is_the_residual_clipped_at_delta() -> None:
    prediction = torch.tensor([-3.0, -0.5, 0.0, 0.3, 0.5, 9.0])
    _, gradient = backward(losses.create("huber", delta=0.5, reduction="sum"), prediction, torch.zeros(6))
    assert gradient.tolist() == pytest.approx([-0.5, -0.5, 0, 0.3, 0.5, 0.5])
