"""The negative log-likelihood of class indices in one operation that tells its denominator too, where torch has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.core.torch_private import may_read, operation

FORWARD, FORWARD_OF_IMAGES = operation("nll_loss_forward"), operation("nll_loss2d_forward")
NONE, MEAN = 0, 1  # torch's numbers for reductions


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
    """Return what ``F.nll_loss`` does, and the sum of the weights of the classes of what is not ignored."""
    forward = FORWARD if target.ndim == 1 else FORWARD_OF_IMAGES
    if forward is None:
        return None
    if target.ndim not in (1, 3):
        log_probs, target = as_images(log_probs, target)
    found: tuple[Tensor, Tensor] = forward(log_probs, target, class_weight, reduction, ignore_index)
    return found


def as_images(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores ``(N, C, ...)`` and something of every position ``(N, ...)`` as images of one column."""
    return scores.flatten(2).unsqueeze(-1), target.flatten(1).unsqueeze(-1)


def can_divide(denominator: Tensor) -> bool:
    """Return whether a denominator is large enough to divide by."""
    return float(denominator) >= torch.finfo(denominator.dtype).tiny
