"""The negative log-likelihood of class indices in one operation that tells its denominator too, where torch has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.core.torch_private import may_read, operation

FORWARD, BACKWARD = operation("nll_loss_forward"), operation("nll_loss_backward")
FORWARD_OF_PLACES, BACKWARD_OF_PLACES = operation("nll_loss2d_forward"), operation("nll_loss2d_backward")
NONE, MEAN, SUM = 0, 1, 2  # torch's numbers for reductions


def nll_mean(log_probs: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None = None) -> Tensor | None:
    """Return the mean of -log_probs ``(N, C, ...)`` at the target ``(N, ...)``, 0 where everything is ignored; ``None``
    if this torch lacks the operation, or it may not be what classes of weight 0 ask for."""
    found = nll(log_probs, target, ignore_index, class_weight, MEAN)
    if found is None:
        return None
    mean, count = found
    if class_weight is not None:
        return mean if may_read(mean) and can_divide(count) and math.isfinite(mean.item()) else None
    # With nothing counted the gradient is 0 already and only the value is 0/0: set it where autograd need not look.
    if not may_read(count) or not float(count):
        mean.detach().masked_fill_(count.logical_not(), 0)
    return mean


def nll(
    log_probs: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None, reduction: int
) -> tuple[Tensor, Tensor] | None:
    """Return the mean or the sum, and the sum of the weights of the classes of what is not ignored."""
    forward = FORWARD if target.ndim == 1 else FORWARD_OF_PLACES
    if forward is None:
        return None
    if target.ndim not in (1, 3):
        log_probs, target = in_places(log_probs, target)
    found: tuple[Tensor, Tensor] = forward(log_probs, target, class_weight, reduction, ignore_index)
    return found


def nll_costs(
    weight: Tensor, logits: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None
) -> Tensor | None:
    """Return the weight of every position ``(N, ...)`` times that of its class, at its class ``(N, C, ...)``; 0
    elsewhere and where it is ignored. That is, but for the sign, the derivative of the sum by the log-probabilities."""
    backward = BACKWARD if target.ndim == 1 else BACKWARD_OF_PLACES
    if backward is None:
        return None
    scores = logits.detach().contiguous()  # asked for its shape alone, but so
    if target.ndim not in (1, 3):
        _, weight = in_places(scores, weight)
        scores, target = in_places(scores, target)
    slopes: Tensor = backward(weight, scores, target, class_weight, NONE, ignore_index, weight.new_ones(()))
    return slopes.neg_().reshape(logits.shape)


def in_places(scores: Tensor, of_positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores ``(N, C, ...)`` and something of every position ``(N, ...)`` as an image ``P x 1``."""
    return scores.flatten(2).unsqueeze(-1), of_positions.flatten(1).unsqueeze(-1)


def can_divide(denominator: Tensor) -> bool:
    """Return whether a denominator is large enough to divide by."""
    return float(denominator) >= torch.finfo(denominator.dtype).tiny
