"""Value and derivative of the binary focal loss of an element, written into buffers."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.stacked import empty_stack


def binary_focal(gamma: float, alpha: float | None) -> Formula:
    r"""Return the formula of :math:`-t a\, q^\gamma \log p - (1 - t)\, b\, p^\gamma \log q` with :math:`p = \sigma(z)`
    and :math:`q = 1 - p`, and of its derivative
    :math:`(1 - t)\, b\, p^\gamma (p - \gamma q \log q) - t a\, q^\gamma (q - \gamma p \log p)`.

    Args:
        gamma: the power.
        alpha: the weight a of yes; that of no is b = 1 - a. Without it both are 1.
    """
    weights = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    written = partial(focal_values_and_slopes, gamma=gamma, weights=weights)
    return Formula(
        lambda *block: written(*block)[0],
        lambda *block: block[2].copy_(written(*block)[1]),
        written,
        lambda logits, target: torch.stack(written(logits, target, *empty_stack(logits))),  # of which few are in place
    )


def focal_values_and_slopes(
    logits: Tensor, target: Tensor, into: Tensor, spare: Tensor, *, gamma: float, weights: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    opposite = torch.neg(logits, out=into)
    p, q, log_p, log_q = logits.sigmoid(), opposite.sigmoid(), F.logsigmoid(logits), F.logsigmoid(opposite)
    power_of_p, power_of_q = p.pow(gamma), q.pow(gamma)
    of_no, of_yes = torch.addcmul(p, q, log_q, value=-gamma), torch.addcmul(q, p, log_p, value=-gamma)
    if weights != (1.0, 1.0):
        power_of_q.mul_(weights[0]), power_of_p.mul_(weights[1])
    values = log_q.mul_(power_of_p).lerp_(log_p.mul_(power_of_q), target).neg_()
    return values, of_no.mul_(power_of_p).lerp_(of_yes.mul_(power_of_q).neg_(), target)
