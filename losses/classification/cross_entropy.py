"""Cross-entropy of logits against class indices or class probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from losses.extend import (
    LOGITS,
    NON_NEGATIVE,
    SHIFT_INVARIANT_LOGITS,
    InputError,
    Integer,
    Loss,
    NonNegative,
    NonNegativeVector,
    Probability,
    Reduction,
    Total,
    checked,
    register,
    register_values,
    weighted,
)
from losses.ops.elementwise.cross_entropy import IndexCrossEntropy, Options, SoftCrossEntropy, has_fast_classes
from losses.ops.elementwise.rows import RowFormula, RowLayout, sum_over_rows
from losses.ops.elementwise.small_cross_entropy import small_mean, small_total
from losses.ops.numerics.nll import nll_mean
from losses.ops.numerics.softmax import log_softmax


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Return the cross-entropy of every position, unreduced, 0 where it is ignored; see :class:`CrossEntropyLoss`."""
    log_probs = logits.log_softmax(1)
    if class_weight is not None:  # a class of weight 0 changes nothing, even where its log-probability is -inf
        log_probs = log_probs.masked_fill((class_weight == 0).reshape(-1, *[1] * (logits.ndim - 2)), 0)
    if target.dtype.is_floating_point:
        probs = target * (1 - label_smoothing) + label_smoothing / logits.shape[1]
        log_probs = log_probs.masked_fill((probs == 0) & (log_probs == -torch.inf), 0)  # 0 log 0 = 0, in gradient too
        return -(probs * weighted_classes(log_probs, class_weight)).sum(1)
    right = F.nll_loss(log_probs, target, class_weight, ignore_index=ignore_index, reduction="none")
    if not label_smoothing:
        return right
    any_class = -weighted_classes(log_probs, class_weight).mean(1).masked_fill(target == ignore_index, 0)
    return (1 - label_smoothing) * right + label_smoothing * any_class


def weighted_classes(log_probs: Tensor, class_weight: Tensor | None) -> Tensor:
    return log_probs if class_weight is None else log_probs * class_weight.reshape(-1, *[1] * (log_probs.ndim - 2))


@register(
    "cross_entropy",
    aliases=("ce",),
    inputs=LOGITS,
    laws=(NON_NEGATIVE, SHIFT_INVARIANT_LOGITS),
    suits="classification into one of several classes with calibrated probabilities",
    source="I. J. Good, Rational Decisions, 1952, doi:10.1111/j.2517-6161.1952.tb00104.x; "
    "label smoothing: C. Szegedy et al., 2016, arXiv:1512.00567; z-loss: A. Chowdhery et al., 2022, arXiv:2204.02311",
)
class CrossEntropyLoss(Loss):
    r"""Negative log-likelihood of the target's class under the softmax of the logits.

    .. math::
        \ell(z, t) = -\sum_c w_c\, t_c \log \operatorname{softmax}(z)_c
                     + \zeta\, w_t \Big(\log \sum_c e^{z_c}\Big)^2,
        \qquad t \leftarrow (1 - s)\, t + s / C

    :math:`z` are the logits of :math:`C` classes, :math:`t_c` is the probability of class :math:`c` in the target (1
    for its index), and :math:`w_t` the weight of the target's class.

    With class indices, the mean divides by the sum of the targets' class weights, as ``torch.nn.CrossEntropyLoss``
    does; with probabilities it divides by the number of positions, and :math:`w_t` is 1. Where everything is ignored
    the mean is 0.

    Args:
        label_smoothing: :math:`s`, fraction of the probability that all classes get alike.
        class_weight: :math:`w`, one number per class; a buffer, so it moves with the module.
        ignore_index: target index of positions that do not count; their logits must still be numbers (to mask positions
            whose logits may be NaN, give them a ``weight`` of 0).
        z_loss: :math:`\zeta`, penalty on the squared log-partition, which keeps logits from drifting.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one position.

    Shapes:
        logits: ``(N, C, ...)``; target: class indices ``(N, ...)`` or probabilities ``(N, C, ...)``.
        Returns ``()``, or ``(N, ...)`` if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: shapes do not fit, an index is out of range, probabilities do not sum to 1, or ``class_weight`` has
            another number of classes than the logits.

    >>> CrossEntropyLoss()(tensor([[0.0, 0.0], [0.0, 0.0]]), tensor([1, 0]))  # log 2
    tensor(0.6931)
    """

    class_weight: Tensor | None

    @checked
    def __init__(
        self,
        *,
        label_smoothing: Probability = 0.0,
        class_weight: NonNegativeVector | None = None,
        ignore_index: Integer = -100,
        z_loss: NonNegative = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        register_values(self, class_weight=class_weight)
        self.ignore_index = ignore_index
        self.z_loss = z_loss
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        items = cross_entropy(
            logits,
            target,
            label_smoothing=self.label_smoothing,
            class_weight=self._weight_of_classes(logits),
            ignore_index=self.ignore_index,
        )
        if not self.z_loss:
            return items
        penalty = self.z_loss * logits.logsumexp(1).square()
        counted = self.denominators(items, logits, target)
        return items + (penalty if counted is None else weighted(penalty, counted))

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        if target.dtype.is_floating_point:
            return None
        counted = target != self.ignore_index
        class_weight = self._weight_of_classes(logits)
        return counted.to(logits.dtype) if class_weight is None else class_weight[target.where(counted, 0)] * counted

    def fast_total(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        fused = not (self.z_loss or self.class_weight is not None or target.dtype.is_floating_point) and weight is None
        if has_fast_classes(logits, target, weight, self.class_weight, fused=fused):
            return self._total_of_rows(logits, target, weight)
        if not fused:
            options = self._options(self._weight_of_classes(logits))
            return small_total(logits, target, weight, self.ignore_index, options)
        total = F.cross_entropy(
            logits, target, ignore_index=self.ignore_index, reduction="sum", label_smoothing=self.label_smoothing
        )
        return Total(total, (target != self.ignore_index).sum())

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        soft, changed = target.dtype.is_floating_point, bool(self.label_smoothing or self.z_loss)
        class_weight = self._weight_of_classes(logits)
        alike = not soft and class_weight is None
        if has_fast_classes(logits, target, class_weight, fused=alike and not changed):
            return self._total_of_rows(logits, target, None, mean=True).sum
        if soft or changed:
            return small_mean(logits, target, self.ignore_index, self._options(class_weight))
        return None if is_compiling() else nll_mean(log_softmax(logits, 1), target, self.ignore_index, class_weight)

    def fast_weighted_mean(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if has_fast_classes(logits, target, weight, self.class_weight, fused=False):
            return None
        options = self._options(self._weight_of_classes(logits))
        total = small_total(logits, target, weight, self.ignore_index, options, mean=True)
        return None if total is None else total.sum

    def _options(self, class_weight: Tensor | None) -> Options:
        return Options(class_weight, self.label_smoothing, self.z_loss)

    def _total_of_rows(self, logits: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total:
        """Return the total of a batch by blocks of rows; for the ``mean`` its sum is divided already."""
        layout = RowLayout(logits)
        counted = self.denominators(logits, logits, target)
        formula, rows = self._formula(layout, logits, target, counted), layout.of_classes(logits)
        if counted is not None:
            denominator: Tensor | int = (counted if weight is None else weighted(counted, weight)).sum()
        else:
            denominator = len(rows) * rows.shape[2] if weight is None else layout.of_positions(weight).sum()
        by_position = None if weight is None else layout.of_positions(weight)
        divisor = float(denominator) if mean else None
        return Total(sum_over_rows(formula, rows, by_position, divisor=divisor), denominator)

    def _formula(self, layout: RowLayout, logits: Tensor, target: Tensor, counted: Tensor | None) -> RowFormula:
        options = self._options(self._weight_of_classes(logits))
        if counted is None:
            return SoftCrossEntropy(layout.of_classes(target), self.items, options)
        indices, counted = layout.of_positions(target), layout.of_positions(counted)
        present = indices != self.ignore_index
        return IndexCrossEntropy(indices, counted, present, self.items, logits.shape[1], options)

    def _weight_of_classes(self, logits: Tensor) -> Tensor | None:
        class_weight = self.class_weight
        if class_weight is None:
            return None
        if class_weight.numel() != logits.shape[1]:
            raise InputError(
                f"class_weight holds {class_weight.numel()} numbers, the logits {tuple(logits.shape)} have "
                f"{logits.shape[1]} classes; give one number per class"
            )
        return class_weight.to(logits.dtype)
