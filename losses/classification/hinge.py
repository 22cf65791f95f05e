"""Hinge loss of binary classifiers: nothing to pay beyond the margin."""

from typing import Literal

import torch
from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    SCORES,
    ElementwiseLoss,
    Fits,
    Positive,
    Reduction,
    checked,
    register,
    require_same_shape,
)
from losses.ops.elementwise import formulas
from losses.ops.elementwise.formulas import Formula


def hinge(scores: Tensor, target: Tensor, *, margin: float = 1.0, power: Literal[1, 2] = 1) -> Tensor:
    """Return the hinge loss of every element, unreduced; see :class:`HingeLoss`."""
    if scores.shape != target.shape:
        require_same_shape(scores=scores, target=target)
    # on which a score belongs, -1 or 1: to compare and convert takes several times as long
    side = torch.threshold(target.detach(), 0, -1).clamp_(max=1)
    least = torch.scalar_tensor(margin, dtype=scores.dtype, device=scores.device)
    shortfall = torch.addcmul(least, scores, side, value=-1).relu()
    return shortfall if power == 1 else shortfall.square()


@register(
    "hinge",
    inputs=SCORES,
    laws=(NON_NEGATIVE,),
    suits="binary decisions where only the side and a margin matter, not the probability",
    fits=Fits(
        task=("binary_classification",),
        against={"calibration": "its scores are no log-odds"},
    ),
    source="C. Cortes, V. Vapnik, Support-Vector Networks, 1995, doi:10.1007/BF00994018",
)
class HingeLoss(ElementwiseLoss):
    r"""How far a score falls short of the margin on its own side of zero.

    .. math::
        \ell(s, y) = \max(0,\ m - y s)^p \qquad
        y = +1 \text{ where the target is above } 0,\ -1 \text{ elsewhere}

    :math:`s` is the score.

    Args:
        margin: score :math:`m` beyond which a right decision costs nothing.
        power: :math:`p`; 1 is the hinge, 2 the squared hinge with a continuous gradient.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        scores, target: ``(*)``, the same. The target may be ``{0, 1}``, ``{-1, 1}`` or bool.
        Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        ``margin`` is in the unit of the scores; the loss is in that unit to the ``power``.

    Raises:
        ConfigError: ``margin`` is not a positive finite number, ``power`` not 1 or 2, or ``reduction`` is unknown.
        InputError: the tensors differ in shape, or the scores are not floating point.

    >>> HingeLoss(reduction="none")(tensor([2.0, 0.5, 0.5]), tensor([1, 1, 0]))  # 1 - 2 < 0, 1 - 0.5, 1 + 0.5
    tensor([0.0000, 0.5000, 1.5000])
    """

    @checked
    def __init__(self, *, margin: Positive = 1.0, power: Literal[1, 2] = 1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.power: Literal[1, 2] = power
        self.reduction = reduction

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return hinge(scores, target, margin=self.margin, power=self.power)

    def block_formula(self) -> Formula:
        return formulas.hinge(self.margin, self.power)
