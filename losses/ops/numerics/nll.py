"""The mean negative log-likelihood of class indices in one operation, where torch has it."""

from __future__ import annotations

from torch import Tensor

from losses.core.torch_private import may_read, operation

FORWARD = operation("nll_loss_forward")
MEAN = 1  # torch's number for reduction="mean"


def nll_mean(log_probs: Tensor, target: Tensor, ignore_index: int) -> Tensor | None:
    """Return the mean of -log_probs ``(N, C)`` at the target ``(N,)``, 0 where everything is ignored; ``None`` if this
    torch lacks the operation."""
    if FORWARD is None:
        return None
    mean: Tensor
    mean, count = FORWARD(log_probs, target, None, MEAN, ignore_index)
    # With nothing counted the gradient is 0 already and only the value is 0/0: set it where autograd need not look.
    if not may_read(count) or not float(count):
        mean.detach().masked_fill_(count.logical_not(), 0)
    return mean
