"""Ordinal loss: for ordered classes, a yes-or-no question for each threshold between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from losses.extend import NON_NEGATIVE, ORDERED_CLASSES, Fits, Loss, Reduction, Total, checked, register
from losses.ops.at_once import items_at_once, suits_at_once
from losses.ops.eager import may_read
from losses.ops.elementwise.arrays import array, is_array, suits_arrays
from losses.ops.elementwise.small_cross_entropy import are_logits_of_indices, relative_positions
from losses.ops.numerics.log_space import softplus
from losses.ops.numerics.softmax import inner_product

SIDES: dict[torch.dtype, tuple[np.floating[Any], np.floating[Any]]] = {
    torch.float32: (np.float32(-1), np.float32(1)),
    torch.float64: (np.float64(-1), np.float64(1)),
}
"""What a threshold counts as that the class is above, and any other, as NumPy has numbers of a dtype."""


def ordinal(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss of every position, unreduced; see :class:`OrdinalLoss`."""
    return answers(logits, target).sum(1)


def answers(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of every threshold, in the shape of the logits."""
    return softplus(logits * sides_of(logits, target))  # log(1 + exp(-z)) of a yes, to all its digits


def sides_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return -1 for every threshold that the class is above, else 1."""
    between = torch.arange(0.5, logits.shape[1], dtype=logits.dtype, device=logits.device)  # class k and k + 1
    return (between.reshape(-1, *[1] * (logits.ndim - 2)) - target.unsqueeze(1)).sign_()


def sides_of_few(logits: Tensor, target: Tensor) -> Tensor:
    """Return the same of few positions ``(N, K - 1)``."""
    above = np.arange(logits.shape[1]) < array(target)[:, np.newaxis]
    crossed, other = SIDES[logits.dtype]
    return torch.from_numpy(np.where(above, crossed, other))


def short_mean(logits: Tensor, target: Tensor, weight: object) -> Tensor | None:
    """Return the mean of few positions ``(N, K - 1)``, or of any number with weights; ``None`` where it is neither,
    or not finite with them."""
    if logits.ndim != 2 or not is_array(target, torch.int64) or not may_read(logits):
        return None
    few = suits_arrays(logits)
    if weight is None:
        if not few:
            return None
        each = torch.full(logits.shape, 1 / target.numel(), dtype=logits.dtype)  # its product has a shorter derivative
        return inner_product(softplus(logits * sides_of_few(logits, target)), each)
    relative = relative_positions(weight, target, logits.dtype, None, logits.shape[1] + 1)
    if relative is None:
        return None
    sides = sides_of_few(logits, target) if few else sides_of(logits, target)
    # the same as a softplus, whose derivative takes twice as long where each row has a weight
    mean = inner_product(F.logsigmoid(logits * sides.neg_()).sum(1), relative.neg_())
    return mean if math.isfinite(mean.item()) else None


@register(
    "ordinal",
    inputs=ORDERED_CLASSES,
    laws=(NON_NEGATIVE,),
    suits="ordered classes, as grades and ages in years, where a far miss is worse than a near one",
    fits=Fits(
        task=("classification",),
        ordering="a far miss crosses more thresholds, each of which costs",
    ),
    source="L. Li, H.-T. Lin, Ordinal Regression by Extended Binary Classification, NIPS 2006, 2007; "
    "W. Cao, V. Mirjalili, S. Raschka, 2020, arXiv:1901.07884 (CORAL)",
)
class OrdinalLoss(Loss):
    r"""Sum of the binary cross-entropies of the questions "is the class above k?".

    .. math::
        \ell = \sum_{k=0}^{K-2} \log\big(1 + e^{-s_k z_k}\big)
        \qquad s_k = \begin{cases} 1 & y > k \\ -1 & y \le k \end{cases}

    :math:`z_k` is the logit of the question whether the class :math:`y`, one of :math:`0, \dots, K - 1`, is above
    :math:`k`. The predicted class is the number of questions that are answered by yes, ``(logits > 0).sum(1)``; a class
    that is missed by more thresholds costs more. Where all logits are one number of the network plus a bias for each
    threshold (CORAL), the answers are consistent: a yes to k is one to all below.

    The earth mover's distance of squared moves between histograms over the classes is ``wasserstein`` (the sum of
    squared differences of cumulative histograms, which also goes by that name, is another one):

    >>> from losses import WassersteinLoss
    >>> squared = WassersteinLoss(p=2, value="cost", form="logits")
    >>> logits = tensor([[-30.0, 0.0, -30.0, 0.0]])  # half of it in class 1, half in class 3
    >>> target = tensor([[-30.0, -30.0, -30.0, 0.0]])  # all of it in class 3
    >>> squared(logits, target)  # half of it moves by 2 classes, 2**2 / 2
    tensor(2.)

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample.

    Shapes:
        logits ``(N, K - 1)``, target ``(N,)`` of integers; further dimensions are positions, ``(N, K - 1, ...)`` and
        ``(N, ...)``, and an item is one of these. Returns ``()``, or the shape of the target if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: ``reduction`` is unknown.
        InputError: the tensors do not fit together, or a class lies outside 0 to K - 1.

    >>> loss = OrdinalLoss(reduction="none")
    >>> loss(tensor([[0.0, 0.0], [9.0, -9.0]]), tensor([2, 1]))  # 2 log 2, and twice log(1 + exp(-9))
    tensor([1.3863e+00, 2.4680e-04])
    """

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return ordinal(logits, target)

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        return short_mean(output, target, weight) if are_logits_of_indices(output, target) else None

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        return short_mean(logits, target, None)

    def fast_total(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        if weight is None:
            return Total(answers(logits, target).sum(), target.numel())
        batch = items_at_once(self.items, logits, target, weight, dim=1)
        return None if batch is None else batch.total()

    def fast_weighted_mean(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        mean = short_mean(logits, target, weight)
        if mean is not None:
            return mean
        batch = items_at_once(self.items, logits, target, weight, dim=1)
        return None if batch is None else batch.mean()

    def hides_by_itself(self, logits: Tensor, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and suits_at_once(logits, target, weight)
