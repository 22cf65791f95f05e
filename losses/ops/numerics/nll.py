"""The mean negative log-likelihood of class indices in one operation, where torch has it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_exporting

from losses.core.device import on_cpu
from losses.core.torch_private import function_of_elements, may_read, operation, transforms_are_active

FORWARD, FORWARD_OF_IMAGES = operation("nll_loss_forward"), operation("nll_loss2d_forward")
NLL_BACKWARD, LOG_SOFTMAX_BACKWARD = operation("nll_loss_backward"), operation("_log_softmax_backward_data")
NLL = function_of_elements("nll_loss_nd")
MEAN = 1  # torch's number for reduction="mean"


def surprises(log_probs: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return -log_probs ``(N, C, ...)`` at the target ``(N, ...)``, 0 where it is ignored."""
    if not is_exporting():
        return F.nll_loss(log_probs, target, ignore_index=ignore_index, reduction="none")
    ignored = target == ignore_index  # what ONNX has for it does not know the empty batch
    picked = log_probs.gather(1, target.masked_fill(ignored, 0).unsqueeze(1)).squeeze(1)
    return picked.neg().masked_fill(ignored, 0)


def nll_mean(log_probs: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None = None) -> Tensor | None:
    """Return the mean of -log_probs ``(N, C, ...)`` at the target ``(N, ...)``, 0 where everything is ignored; ``None``
    if this torch lacks the operation, or it may not be what is asked for: of nothing, or of classes of weight 0."""
    if class_weight is None and may_read(log_probs):
        mean = F.nll_loss(log_probs, target, ignore_index=ignore_index)
        return mean if math.isfinite(mean.item()) else None
    launched = not on_cpu(log_probs)
    if class_weight is not None:
        if class_weight.requires_grad or transforms_are_active() or not (launched or may_read(log_probs)):
            return None
        if launched:  # a class of weight 0 changes nothing, even where its log-probability is -inf or it counts alone
            nothing = (class_weight == 0).reshape(-1, *[1] * (log_probs.ndim - 2))
            log_probs = log_probs.masked_fill(nothing, 0)
    found = nll_mean_and_count(log_probs, target, ignore_index, class_weight)
    if found is None:
        return None
    mean, count = found
    if class_weight is not None and not launched:
        return mean if can_divide(count) and math.isfinite(mean.item()) else None
    # With nothing counted the gradient is 0 already and only the value is 0/0: set it where autograd need not look.
    mean.detach().masked_fill_(count.logical_not(), 0)
    return mean


def nll(log_probs: Tensor, target: Tensor, class_weight: Tensor | None, reduction: str, ignore_index: int) -> Tensor:
    """Return ``F.nll_loss`` without what that asks before."""
    if NLL is None:
        return F.nll_loss(log_probs, target, class_weight, ignore_index=ignore_index, reduction=reduction)
    value: Tensor = NLL(log_probs, target, class_weight, ("none", "mean", "sum").index(reduction), ignore_index)
    return value


def nll_mean_and_count(
    log_probs: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return the mean as it is, and what it was divided by: how many are not ignored, or what their classes weigh."""
    forward = FORWARD if target.ndim == 1 else FORWARD_OF_IMAGES
    if forward is None:
        return None
    if target.ndim not in (1, 3):  # an image of one column
        log_probs, target = log_probs.flatten(2).unsqueeze(-1), target.flatten(1).unsqueeze(-1)
    found: tuple[Tensor, Tensor] = forward(log_probs, target, class_weight, MEAN, ignore_index)
    return found


def can_divide(denominator: Tensor) -> bool:
    """Return whether a denominator is large enough to divide by."""
    return float(denominator) >= torch.finfo(denominator.dtype).tiny


def surprises_and_slopes(logits: Tensor, target: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p at the target ``(N,)`` and the derivative of the sum of it times factors by the logits ``(N, C)``,
    where :func:`has_slopes`."""
    assert NLL_BACKWARD is not None and LOG_SOFTMAX_BACKWARD is not None
    log_probs, none = logits.log_softmax(1), factors.new_empty(())
    slopes: Tensor = NLL_BACKWARD(factors, log_probs, target, None, 0, -100, none)
    slopes = LOG_SOFTMAX_BACKWARD(slopes, log_probs, 1, log_probs.dtype)
    return nll(log_probs, target, None, "none", -100), slopes


def has_slopes(logits: Tensor) -> bool:
    """Return whether torch has the operations that differentiate so."""
    return logits.ndim == 2 and NLL_BACKWARD is not None and LOG_SOFTMAX_BACKWARD is not None
