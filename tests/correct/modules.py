"""Modules that are no Loss, as they stand in other projects; what they never promised is said with them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.extend import CLASS_INDICES, POINTWISE, SCORES
from tests.correct.declaring import CORRECT, Correct

EMPTY = {"empty_batch": "the mean of nothing is NaN, as in torch"}
UNCHECKED = {"bad_batches_are_refused": "it looks at no values"}
HALF = {
    "half_precision_accumulates_in_float32": "it returns the dtype that it was given",
    "rounding": "in half precision it computes in half precision",
}


class Lorentzian(nn.Module):
    """Mean of the logarithm of one and the squared residual."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.float() if prediction.dtype.itemsize < 4 else prediction).sub(target).square().log1p().mean()


class MeanOfTasks(nn.Module):
    """A weighted sum of two losses of torch, with the weights in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.25, 0.75], dtype=torch.float64))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        first, second = F.mse_loss(prediction, target), F.l1_loss(prediction, target)
        return (self.weights[0] * first + self.weights[1] * second).to(first.dtype)


class Margin(nn.Module):
    """Soft margin of labels that are -1 or 1."""

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        return F.softplus(-scores * target).mean()


class ClassSquares(nn.Module):
    """Squared differences of probabilities, in float32 at least."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probs = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
        right = target.unsqueeze(1) == torch.arange(logits.shape[1])
        return (probs - right.to(probs.dtype)).square().sum(1).mean()


def module(loss: nn.Module, inputs: Any, oracle: Any, **exemptions: str) -> None:
    CORRECT.append(Correct(loss, inputs, oracle, exemptions))


module(Lorentzian(), POINTWISE, lambda o, t: (1 + (o - t) ** 2).log().mean(), **EMPTY, **UNCHECKED)
module(
    MeanOfTasks(),
    POINTWISE,
    lambda o, t: (0.25 * (o - t) ** 2 + 0.75 * (o - t).abs()).mean(),
    **EMPTY,
    **UNCHECKED,
    **HALF,
)
module(nn.HuberLoss(), POINTWISE, lambda o, t: F.smooth_l1_loss(o, t), **EMPTY, **UNCHECKED, **HALF)
module(Margin(), SCORES, lambda o, t: F.soft_margin_loss(o, t), **EMPTY, **UNCHECKED, **HALF)
module(
    ClassSquares(),
    CLASS_INDICES,
    lambda o, t: ((o.softmax(1) - F.one_hot(t, o.shape[1])) ** 2).sum(1).mean(),
    **EMPTY,
    bad_batches_are_refused="a single sample is taken too",
)
