"""Hinge loss of several classes: nothing to pay once the right score leads by the margin."""

from typing import Literal

import torch
from torch import Tensor

from losses.extend import (
    CLASS_INDICES,
    NON_NEGATIVE,
    SHIFT_INVARIANT_LOGITS,
    Fits,
    Loss,
    Positive,
    Reduction,
    Total,
    checked,
    register,
)
from losses.ops.at_once import rows_at_once, suits_at_once
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.shortfalls import mean_of_few_shortfalls, total_of_shortfalls
from losses.ops.tiles.sizes import sizes

MANY = 1 << 12
"""Scores of a batch from which blocks of rows pay, as the plain composition takes many operations."""

Form = Literal["crammer_singer", "weston_watkins"]


def multiclass_hinge(
    scores: Tensor, target: Tensor, *, margin: float = 1.0, power: Literal[1, 2] = 1, form: Form = "crammer_singer"
) -> Tensor:
    """Return the multi-class hinge loss of every position, unreduced; see :class:`MulticlassHingeLoss`."""
    index = target.unsqueeze(1)
    rivals = scores.scatter(1, index, -torch.inf)  # the right class is no rival of its own
    if form == "crammer_singer":
        rivals = rivals.amax(1, keepdim=True)
    shortfall = (rivals - scores.gather(1, index) + margin).relu()
    return (shortfall if power == 1 else shortfall.square()).sum(1)


@register(
    "multiclass_hinge",
    inputs=CLASS_INDICES,
    laws=(NON_NEGATIVE, SHIFT_INVARIANT_LOGITS),
    suits="classification where only the ranking of scores and a margin matter, not the probability",
    fits=Fits(
        task=("classification",),
        against={"calibration": "its scores are no logits of probabilities"},
    ),
    source="K. Crammer, Y. Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, "
    "JMLR 2, 2001; J. Weston, C. Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999",
)
class MulticlassHingeLoss(Loss):
    r"""How far the score of the target's class falls short of leading by the margin: before the best of its rivals
    (Crammer-Singer), or before each of them, added up (Weston-Watkins).

    .. math::
        \ell(s, t) = \begin{cases}
            \max(0,\ m - s_t + \max_{c \ne t} s_c)^p     & \text{Crammer-Singer} \\
            \sum_{c \ne t} \max(0,\ m - s_t + s_c)^p     & \text{Weston-Watkins}
        \end{cases}

    :math:`s_c` is the score of class :math:`c`, :math:`t` the class of the target. ``torch.nn.MultiMarginLoss`` is
    Weston-Watkins divided by the number of classes; scikit-learn's ``hinge_loss`` is Crammer-Singer.

    Args:
        margin: lead :math:`m` of the right score beyond which nothing is to pay.
        power: :math:`p`; 1 is the hinge, 2 the squared hinge with a continuous gradient.
        form: ``"crammer_singer"`` compares with the best rival, ``"weston_watkins"`` with all.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample, or one position of it.

    Shapes:
        scores: ``(N, C, ...)``; target: class indices ``(N, ...)``. Returns ``()``, or ``(N, ...)`` if nothing is
        reduced.

    Units:
        ``margin`` is in the unit of the scores; the loss is in that unit to the ``power``.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: shapes do not fit, or an index is out of range.

    >>> scores, target = tensor([[1.0, 0.5, 2.0]]), tensor([0])
    >>> MulticlassHingeLoss()(scores, target)  # 1 - 1 + 2
    tensor(2.)
    >>> MulticlassHingeLoss(form="weston_watkins")(scores, target)  # (1 - 1 + 0.5) + (1 - 1 + 2)
    tensor(2.5000)
    """

    @checked
    def __init__(
        self,
        *,
        margin: Positive = 1.0,
        power: Literal[1, 2] = 1,
        form: Form = "crammer_singer",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.margin = margin
        self.power: Literal[1, 2] = power
        self.form: Form = form
        self.reduction = reduction

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return multiclass_hinge(scores, target, margin=self.margin, power=self.power, form=self.form)

    def fast_total(self, scores: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        batch = rows_at_once(self.items, scores, target, weight)
        return self._total_of_rows(scores, target, weight) if batch is None else batch.total()

    def fast_mean(self, scores: Tensor, target: Tensor) -> Tensor | None:
        total = self._total_of_rows(scores, target, None, mean=True)
        if total is not None:
            return total.sum
        if self.form != "weston_watkins":
            return None
        return mean_of_few_shortfalls(self.items, scores, target, margin=self.margin, power=self.power)

    def fast_weighted_mean(self, scores: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        batch = rows_at_once(self.items, scores, target, weight)
        return None if batch is None else batch.mean()

    def hides_by_itself(self, scores: Tensor, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and suits_at_once(scores, target, weight)

    def _total_of_rows(
        self, scores: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False
    ) -> Total | None:
        least = min(MANY, sizes().rows_in_blocks)
        if self.form != "weston_watkins" or not has_fast_rows(scores, target, weight, least=least):
            return None
        return total_of_shortfalls(self.items, scores, target, weight, margin=self.margin, power=self.power, mean=mean)
