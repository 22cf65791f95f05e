"""The fused functions of torch for elements of one shape, called without the broadcasting that ``torch.nn.functional``
does before: it takes as long as a thousand elements."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.core.torch_private import function_of_elements

MSE, HUBER = function_of_elements("mse_loss"), function_of_elements("huber_loss")
REDUCTIONS = ("none", "mean", "sum")
"""Torch calls them by number inside. Each function has them written out: what is read from a module is asked again
before every compiled call."""


def fused_mse(prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
    if MSE is None:
        return F.mse_loss(prediction, target, reduction=reduction)
    value: Tensor = MSE(prediction, target, ("none", "mean", "sum").index(reduction))
    return value


def fused_huber(prediction: Tensor, target: Tensor, reduction: str, delta: float) -> Tensor:
    if HUBER is None:
        return F.huber_loss(prediction, target, reduction=reduction, delta=delta)
    value: Tensor = HUBER(prediction, target, ("none", "mean", "sum").index(reduction), delta)
    return value


def fused_binary_cross_entropy(logits: Tensor, target: Tensor, reduction: str) -> Tensor:
    return torch.binary_cross_entropy_with_logits(logits, target, None, None, ("none", "mean", "sum").index(reduction))


def fused_poisson_nll(log_rates: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """Without the logarithm of y!, of which torch has an approximation."""
    return torch.poisson_nll_loss(log_rates, counts, True, False, 0.0, ("none", "mean", "sum").index(reduction))
