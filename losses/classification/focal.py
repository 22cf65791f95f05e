"""Focal loss: cross-entropy that counts the less, the surer the model is of the right answer."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.extend import (
    BINARY,
    LOGITS,
    NON_NEGATIVE,
    ClassForm,
    ConfigError,
    Fits,
    InputError,
    Integer,
    Kind,
    Loss,
    NonNegative,
    NonNegativeVector,
    Probability,
    Problem,
    Reduction,
    Total,
    checked,
    register,
    register_values,
    require_same_shape,
    weighted,
)
from losses.ops.at_once import ItemsAtOnce, rows_at_once, suits_at_once
from losses.ops.eager import may_read, on_cpu
from losses.ops.elementwise import focal as formulas_of_focal
from losses.ops.elementwise.blocks import mean_in_blocks, mean_in_one_piece, suits_blocks, sum_in_blocks
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.rows import has_fast_rows
from losses.ops.elementwise.small_cross_entropy import are_logits_of_indices
from losses.ops.elementwise.stacked import StackedBatch
from losses.ops.elementwise.surprise import all_count, mean_of_launches, total_of_surprises
from losses.ops.elementwise.surprise_arrays import mean_of_few_surprises
from losses.ops.numerics.nll import surprises
from losses.ops.numerics.softmax import log_softmax


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | float | None = None,
    form: ClassForm = "binary",
    ignore_index: int = -100,
) -> Tensor:
    """Return the focal loss of every element or position, unreduced; see :class:`FocalLoss`."""
    if form == "binary":
        require_same_shape(logits=logits, target=target)
        return binary_focal(logits, target, gamma, alpha)
    return multiclass_focal(logits, target, gamma, None if alpha is None else torch.as_tensor(alpha), ignore_index)


def binary_focal(logits: Tensor, target: Tensor, gamma: float, alpha: Tensor | float | None) -> Tensor:
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    # (1 - p)^gamma as exp(gamma log(1 - p)), whose derivative is finite where p is 1 and gamma below 1
    yes, no = (gamma * log_no).exp() * log_yes, (gamma * log_yes).exp() * log_no
    if alpha is not None:
        yes, no = alpha * yes, (1 - alpha) * no
    return -torch.lerp(no, yes, target)


def multiclass_focal(logits: Tensor, target: Tensor, gamma: float, alpha: Tensor | None, ignore_index: int) -> Tensor:
    log_probs = log_softmax(logits, 1)
    if target.dtype.is_floating_point:
        log_probs = log_probs.masked_fill((target == 0) & (log_probs == -torch.inf), 0)  # 0 log 0 = 0, in gradient too
        costs = target * focused(-log_probs, gamma)
        return (costs if alpha is None else costs * alpha.reshape(-1, *[1] * (logits.ndim - 2))).sum(1)
    items = focused(surprises(log_probs, target, ignore_index), gamma)
    return items if alpha is None else items * alpha[target.where(target != ignore_index, 0)]


def focused(surprise: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma (-log p), from -log p."""
    wrong = surprise.neg().expm1().neg()  # 1 - p, with all its digits
    return surprise * wrong.clamp(min=torch.finfo(wrong.dtype).tiny).pow(gamma)  # 0 to a power below 1 has no slope


@register(
    "focal",
    inputs=(BINARY, LOGITS),
    laws=(NON_NEGATIVE,),
    suits="detection and classification where easy examples of a frequent class would drown the others",
    fits=Fits(
        task=("binary_classification", "classification"),
        imbalance="easy examples, most of them of the frequent class, count for little",
        calibration="there is little to gain by more certainty, where an over-fitted network would be too certain",
    ),
    source="T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, Focal Loss for Dense Object Detection, 2017, "
    "arXiv:1708.02002",
)
class FocalLoss(Loss):
    r"""Cross-entropy times the probability of all that is wrong, to a power: what the model knows counts for little.

    .. math::
        \ell(z, t) = -\sum_c \alpha_c\, t_c\, (1 - p_c)^\gamma \log p_c,
        \qquad p = \sigma(z) \text{ or } \operatorname{softmax}(z)

    :math:`z` are the logits, :math:`t_c` is the probability of class :math:`c` in the target (1 for its index). The
    binary form has the two classes yes, of probability :math:`\sigma(z)`, and no. With :math:`\gamma = 0` and without
    :math:`\alpha` it is binary cross-entropy, in the multi-class form cross-entropy.

    Args:
        gamma: :math:`\gamma`, how fast what is easy is faded out; the paper's choice is 2.
        alpha: :math:`\alpha`, weight of the classes: in the binary form a number, of yes, while no has one less it (the
            paper has 0.25 beside a ``gamma`` of 2); in the multi-class form a list with one for each class. It changes
            the value of an item, not how much the item counts in the mean.
        form: ``"binary"``, yes-or-no questions, or ``"multiclass"``, one of several classes.
        ignore_index: in the multi-class form the target index of positions that do not count.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element, in the multi-class form one position.

    Shapes:
        logits, target: ``(*)``, the same; targets are probabilities in [0, 1], bool and integers are accepted. Returns
        ``()``, or ``(*)`` if nothing is reduced.
        In the multi-class form logits ``(N, C, ...)`` and class indices ``(N, ...)`` or probabilities ``(N, C, ...)``.
        Returns ``()``, or ``(N, ...)`` if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range, or ``alpha`` is a list in the binary form or a number in the
            other.
        InputError: shapes do not fit, a target lies outside [0, 1], an index is out of range, probabilities do not sum
            to 1, or ``alpha`` has another number of classes than the logits.

    >>> loss = FocalLoss(gamma=2, reduction="none")
    >>> loss(tensor([0.0, 0.0]), tensor([1, 0]))  # log(2) / 4 each
    tensor([0.1733, 0.1733])
    >>> loss = FocalLoss(gamma=1, form="multiclass")
    >>> loss(tensor([[0.0, 0.0, 0.0, 0.0]]), tensor([3]))  # 3/4 of log(4)
    tensor(1.0397)
    """

    alpha: Tensor | float | None

    @checked
    def __init__(
        self,
        *,
        gamma: NonNegative = 2.0,
        alpha: Probability | NonNegativeVector | None = None,
        form: ClassForm = "binary",
        ignore_index: Integer = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if alpha is not None and isinstance(alpha, float | int) != (form == "binary"):
            wanted = "a number, the weight of yes" if form == "binary" else "a list with one number per class"
            raise ConfigError(Problem(("alpha",), f"got {alpha!r}, expected {wanted}, with form={form!r}"))
        self.gamma = gamma
        register_values(self, alpha=alpha)
        self.form: ClassForm = form
        self.ignore_index = ignore_index
        self.reduction = reduction

    @property
    def inputs(self) -> tuple[Kind, ...]:
        return (BINARY,) if self.form == "binary" else (LOGITS,)

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal(
            logits,
            target,
            gamma=self.gamma,
            alpha=self._weight_of_classes(logits),
            form=self.form,
            ignore_index=self.ignore_index,
        )

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        if self.form == "binary" or target.dtype.is_floating_point:
            return None
        return (target != self.ignore_index).to(logits.dtype)

    def fast_total(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        launched = self._launched(logits, target, weight)
        if launched is not None:
            return launched.total()
        if self._has_rows(logits, target, weight):
            return self._total_of_rows(logits, target, weight)
        if self.form == "binary" and suits_blocks(logits, target, weight, long=True):
            total = sum_in_blocks(self._formula(), self.items, logits, target, weight)
            return Total(total, logits.numel() if weight is None else weighted(torch.ones_like(logits), weight).sum())
        return None

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        if self.form == "binary" or not are_logits_of_indices(output, target):
            return None
        return self._mean_of_few(output, target, weight)

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        few = self._mean_of_few(logits, target, None)
        if few is not None:
            return few
        launched = self._launched(logits, target, None)
        if launched is not None:
            return launched.mean()
        if self._has_rows(logits, target, None):
            return self._total_of_rows(logits, target, None, mean=True).sum
        if self.form == "binary" and suits_blocks(logits, target, long=True):
            return mean_in_blocks(self._formula(), self.items, logits, target)
        if self.form == "binary" and logits.numel():
            few = mean_in_one_piece(self._formula(), self.items, logits, target)
            if few is not None:
                return few
        if self.form == "multiclass" and self.alpha is None and not target.dtype.is_floating_point:
            definition = partial(focused, gamma=self.gamma)
            mean = mean_of_launches(self._of_surprise, definition, logits, target, self.ignore_index)
            if mean is not None:
                return mean
        every_item = self.form == "binary" or target.dtype.is_floating_point or all_count(target, self.ignore_index)
        return self.items(logits, target).mean() if every_item and may_read(logits) and target.numel() else None

    def fast_weighted_mean(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        launched = self._launched(logits, target, weight)
        return self._mean_of_few(logits, target, weight) if launched is None else launched.mean()

    def hides_by_itself(self, logits: Tensor, target: Tensor, weight: Tensor) -> bool:
        if self.reduction == "none" or (self.form == "multiclass" and target.dtype.is_floating_point):
            return False
        return suits_at_once(logits, target, weight)

    def _mean_of_few(self, logits: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        """Return the mean of a few rows against class indices, in NumPy."""
        if self.form == "binary" or not on_cpu(logits):
            return None
        alpha = self._weight_of_classes(logits)
        assert not isinstance(alpha, float)  # as in the binary form
        return mean_of_few_surprises(
            self._of_surprise,
            lambda logits: self.definition_total(logits, target, weight).mean(),
            logits,
            target,
            weight,
            self.ignore_index,
            alpha,
        )

    def _launched(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> StackedBatch | ItemsAtOnce | None:
        """Return what sums a batch up where every operation is a launch."""
        if on_cpu(logits):
            return None
        if self.form == "binary":
            return self._formula().launched(self.items, logits, target, weight) if logits.numel() else None
        if target.dtype.is_floating_point:
            return None
        return rows_at_once(self.items, logits, target, weight, self.ignore_index)

    def _has_rows(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> bool:
        """Return whether this is one of many rows against class indices."""
        if self.form == "binary" or target.dtype.is_floating_point:
            return False
        return has_fast_rows(logits, target, weight)

    def _total_of_rows(self, logits: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total:
        alpha = self._weight_of_classes(logits)
        counted = (target != self.ignore_index).to(logits.dtype)
        factors = alpha[target.where(counted != 0, 0)] if isinstance(alpha, Tensor) else None
        return total_of_surprises(
            self._of_surprise, self.items, logits, target, weight, counted, factors=factors, mean=mean
        )

    def _of_surprise(self, surprise: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and derivative from -log p, in the multi-class form."""
        right = surprise.neg().exp_()
        wrong = surprise.neg().expm1_().neg_().clamp_(min=torch.finfo(surprise.dtype).tiny)
        factor = wrong.pow(self.gamma)
        return surprise * factor, (surprise / wrong).mul_(right).mul_(self.gamma).add_(1).mul_(factor)

    def _formula(self) -> Formula:
        """Return value and derivative of an element, in the binary form."""
        assert not isinstance(self.alpha, Tensor)  # as in the multi-class form
        return formulas_of_focal.binary_focal(self.gamma, self.alpha)

    def _weight_of_classes(self, logits: Tensor) -> Tensor | float | None:
        if not isinstance(self.alpha, Tensor):
            return self.alpha
        if self.alpha.numel() != logits.shape[1]:
            raise InputError(
                f"alpha holds {self.alpha.numel()} numbers, the logits {tuple(logits.shape)} have {logits.shape[1]} "
                "classes; give one number per class"
            )
        return self.alpha.to(logits.dtype)
