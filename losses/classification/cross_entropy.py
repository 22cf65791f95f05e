"""Cross-entropy of logits, or of the linear layer that makes them, against class indices or class probabilities."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from losses.extend import (
    LINEAR_LOGITS,
    LOGITS,
    NON_NEGATIVE,
    SHIFT_INVARIANT_LOGITS,
    Fits,
    InputError,
    Integer,
    LinearLogits,
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
from losses.ops.at_once import ItemsAtOnce, items_at_once, rows_at_once
from losses.ops.eager import is_launched, may_read
from losses.ops.elementwise.class_arrays import mean_of_few_classes
from losses.ops.elementwise.cross_entropy import IndexCrossEntropy, Options, SoftCrossEntropy, has_fast_classes
from losses.ops.elementwise.linear_rows import (
    counted_rows,
    has_chunks,
    in_rows,
    sum_over_linear_rows,
    values_of_linear_rows,
)
from losses.ops.elementwise.rows import RowFormula, RowLayout, sum_over_rows
from losses.ops.elementwise.small_cross_entropy import (
    are_logits_of_indices,
    is_differentiated,
    mean_of_few_indices,
    small_mean,
    small_total,
)
from losses.ops.elementwise.stacked import StackedBatch
from losses.ops.elementwise.stacked_rows import soft_cross_entropy
from losses.ops.numerics.nll import has_slopes, nll_mean, surprises_and_slopes
from losses.ops.numerics.softmax import log_softmax
from losses.ops.tiles.sizes import sizes


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
    inputs=(LOGITS, LINEAR_LOGITS),
    laws=(NON_NEGATIVE, SHIFT_INVARIANT_LOGITS),
    suits="classification into one of several classes with calibrated probabilities",
    fits=Fits(
        task=("classification",),
        imbalance="class_weight makes up for how rare a class is",
        calibration="least where the probabilities are the true ones",
        distributions="targets may be probabilities of all classes",
        few_samples="label_smoothing keeps it from certainty",
        against={"label_noise": "a wrong label that is found absurd has the largest gradient"},
    ),
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
        In place of logits :class:`losses.LinearLogits`, features ``(N, ..., D)`` with the weight ``(C, D)`` and bias
        ``(C,)`` of the last layer; the target is then class indices ``(N, ...)`` or, classes last as that layer has
        them, probabilities ``(N, ..., C)``. From a million logits on they are made in chunks of rows, forward and
        backward, and never all at once.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: shapes do not fit, an index is out of range, probabilities do not sum to 1, or ``class_weight`` has
            another number of classes than the logits; features, weight and bias are not those of one layer.

    >>> CrossEntropyLoss()(tensor([[0.0, 0.0], [0.0, 0.0]]), tensor([1, 0]))  # log 2
    tensor(0.6931)
    >>> head = torch.nn.Linear(16, 3)
    >>> features, target = torch.randn(8, 16), torch.arange(8) % 3
    >>> value = CrossEntropyLoss()(LinearLogits(features, head.weight, head.bias), target)
    >>> torch.allclose(value, CrossEntropyLoss()(head(features), target))
    True
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

    def items(self, output: Tensor | LinearLogits, target: Tensor) -> Tensor:
        if not isinstance(output, LinearLogits):
            return self._of_logits(output, target)
        if not has_chunks(output, target, self.class_weight):
            soft = target.dtype.is_floating_point
            return self._of_logits(F.linear(*output).movedim(-1, 1), target.movedim(-1, 1) if soft else target)
        linear, rows, _ = in_rows(output, target)
        return values_of_linear_rows(self._formula_of_linear(linear, rows), linear).reshape(output.positions)

    def _of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
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

    def denominators(self, items: Tensor, output: Tensor | LinearLogits, target: Tensor) -> Tensor | None:
        if target.dtype.is_floating_point:
            return None
        counted = target != self.ignore_index
        class_weight = self._weight_of_classes(output)
        if class_weight is None:
            return counted.to(dtype_of(output))
        return class_weight[target.where(counted, 0)] * counted

    def fast_total(self, output: Tensor | LinearLogits, target: Tensor, weight: Tensor | None) -> Total | None:
        launched = self._launched(output, target, weight)
        if launched is not None:
            return launched.total()
        if isinstance(output, LinearLogits):
            linear, rows, by_row = in_rows(output, target, weight)
            if has_chunks(linear, rows, by_row, self.class_weight):
                return self._total_of_chunks(linear, rows, by_row)
            return self._total(F.linear(*linear), rows, by_row)
        fused = not (self.z_loss or self.class_weight is not None or target.dtype.is_floating_point) and weight is None
        if has_fast_classes(output, target, weight, self.class_weight, fused=fused):
            return self._total_of_rows(output, target, weight)
        if not fused:
            options = self._options(self._weight_of_classes(output))
            return small_total(output, target, weight, self.ignore_index, options)
        total = F.cross_entropy(
            output, target, ignore_index=self.ignore_index, reduction="sum", label_smoothing=self.label_smoothing
        )
        return Total(total, (target != self.ignore_index).sum())

    def fast_mean(self, output: Tensor | LinearLogits, target: Tensor) -> Tensor | None:
        if isinstance(output, LinearLogits):
            linear, rows, _ = in_rows(output, target)
            if not has_chunks(linear, rows, self.class_weight):
                return self._mean_of_linear(linear, rows, None)
            return self._total_of_chunks(linear, rows, None, mean=True).sum if may_read(rows) else None
        soft, changed = target.dtype.is_floating_point, bool(self.label_smoothing or self.z_loss)
        if is_compiling() and not (soft or changed or self.class_weight is not None):
            return self._mean_of_indices(output, target)
        launched = self._launched(output, target, None) if soft else None
        if launched is not None:
            return launched.mean()
        class_weight = self._weight_of_classes(output)
        alike = not soft and class_weight is None
        if has_fast_classes(output, target, class_weight, fused=alike and not changed):
            return self._total_of_rows(output, target, None, mean=True).sum
        if changed:
            few = self._mean_of_few(output, target, None, class_weight)
            if few is not None:
                return few
        if soft or changed:
            return small_mean(output, target, self.ignore_index, self._options(class_weight))
        if is_compiling():
            return None
        return nll_mean(log_softmax(output, 1), target, self.ignore_index, class_weight)

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        if not are_logits_of_indices(output, target):
            return None
        few = output.numel() < sizes().rows_in_blocks_of_classes and not (self.label_smoothing or self.z_loss)
        if few and may_read(output):
            return mean_of_few_indices(output, target, weight, self.ignore_index, self._weight_of_classes(output))
        if weight is None:
            return self.fast_mean(output, target)
        as_is = isinstance(weight, Tensor) and weight.dtype is output.dtype
        hides = as_is and self.hides_by_itself(output, target, weight)
        return self.fast_weighted_mean(output, target, weight) if hides else None

    def traced_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        changed = self.label_smoothing or self.z_loss or self.class_weight is not None
        if changed or not are_logits_of_indices(output, target):
            return None
        ignore_index = self.ignore_index  # the same as below, written out: a method is one question more
        total = F.cross_entropy(output, target, ignore_index=ignore_index, reduction="sum")
        return total / (target != ignore_index).sum().clamp(min=1)

    def _mean_of_indices(self, logits: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="sum")
        return total / (target != self.ignore_index).sum().clamp(min=1)

    def fast_weighted_mean(self, output: Tensor | LinearLogits, target: Tensor, weight: Tensor) -> Tensor | None:
        if isinstance(output, LinearLogits):
            linear, rows, by_row = in_rows(output, target, weight)
            chunks = has_chunks(linear, rows, by_row, self.class_weight)
            return None if chunks else self._mean_of_linear(linear, rows, by_row)
        if has_fast_classes(output, target, weight, self.class_weight, fused=False):
            return None
        launched = self._launched(output, target, weight)
        if launched is not None:
            return launched.mean()
        class_weight = self._weight_of_classes(output)
        if self.label_smoothing or self.z_loss:
            few = self._mean_of_few(output, target, weight, class_weight)
            if few is not None:
                return few
        total = small_total(output, target, weight, self.ignore_index, self._options(class_weight), mean=True)
        return None if total is None else total.sum

    def hides_by_itself(self, output: Tensor | LinearLogits, target: Tensor, weight: Tensor) -> bool:
        return self.reduction != "none" and self._is_launched(output, target, weight)

    def _is_launched(self, output: Tensor | LinearLogits, target: Tensor, weight: Tensor | None) -> bool:
        if isinstance(output, LinearLogits) or not is_launched(output, target, weight):
            return False
        return not any(is_differentiated(each) for each in (target, weight, self.class_weight))

    def _launched(
        self, output: Tensor | LinearLogits, target: Tensor, weight: Tensor | None
    ) -> StackedBatch | ItemsAtOnce | None:
        """Return what sums a batch up where every operation is a launch, in the forms that it takes fewer of so."""
        if isinstance(output, LinearLogits) or not self._is_launched(output, target, weight):
            return None
        soft = target.dtype.is_floating_point
        if soft and output.ndim == 2 and not self.z_loss and len(output):
            class_weight = self._weight_of_classes(output)
            formula = partial(soft_cross_entropy, label_smoothing=self.label_smoothing, class_weight=class_weight)
            return StackedBatch(formula, self._of_logits, [output], target, weight, trailing=1)
        if soft:
            return items_at_once(self._of_logits, output, target, weight, dim=1)
        batch = rows_at_once(self._of_logits, output, target, weight, self.ignore_index)
        if batch is None:
            return None
        if self.class_weight is None:
            others = self.label_smoothing or self.z_loss or not has_slopes(output)
            return batch if others else batch._replace(by_hand=surprises_and_slopes)
        return batch._replace(counts=self.denominators(output, output, batch.target))

    def _mean_of_few(
        self, logits: Tensor, target: Tensor, weight: Tensor | None, class_weight: Tensor | None
    ) -> Tensor | None:
        def definition(logits: Tensor) -> Tensor:
            return self.definition_total(logits, target, weight).mean()

        options = self._options(class_weight)
        return mean_of_few_classes(definition, logits, target, weight, self.ignore_index, options)

    def _mean_of_linear(self, linear: LinearLogits, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the mean of few linear logits ``(N, C)``, made once and all at once."""
        logits = F.linear(*linear)
        mean = self.fast_mean(logits, target) if weight is None else self.fast_weighted_mean(logits, target, weight)
        return self._total(logits, target, weight).mean() if mean is None else mean

    def _options(self, class_weight: Tensor | None) -> Options:
        return Options(class_weight, self.label_smoothing, self.z_loss)

    def _total_of_rows(self, logits: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False) -> Total:
        """Return the total of a batch by blocks of rows; for the ``mean`` its sum is divided already."""
        layout, counted = RowLayout(logits), self.denominators(logits, logits, target)
        rows = layout.of_classes(logits)
        by_position = None if weight is None else layout.of_positions(weight)
        if counted is None:
            formula = self._soft_formula(logits, layout.of_classes(target))
        else:
            counted = layout.of_positions(counted)
            formula = self._index_formula(logits, layout.of_positions(target), counted)
        denominator = denominator_of(counted, by_position, rows.shape[0] * rows.shape[2])
        divisor = float(denominator) if mean else None
        return Total(sum_over_rows(formula, rows, by_position, divisor=divisor), denominator)

    def _total_of_chunks(
        self, linear: LinearLogits, target: Tensor, weight: Tensor | None, *, mean: bool = False
    ) -> Total:
        """Return the total of linear logits ``(N, C)`` by chunks of rows; for the ``mean`` its sum is divided."""
        denominator = denominator_of(self.denominators(target, linear, target), weight, len(target))
        if may_read(target) and not target.dtype.is_floating_point:  # no product is made of what does not count
            counts = target != self.ignore_index
            counts = counts if weight is None else counts & (weight != 0)
            linear, target, weight = counted_rows(counts, linear, target, weight)
        divisor = float(denominator) if mean else None
        formula = self._formula_of_linear(linear, target)
        return Total(sum_over_linear_rows(formula, linear, weight, divisor=divisor), denominator)

    def _formula_of_linear(self, linear: LinearLogits, target: Tensor) -> RowFormula:
        counted = self.denominators(target, linear, target)
        if counted is None:
            return self._soft_formula(linear, target.unsqueeze(-1))
        return self._index_formula(linear, target.unsqueeze(-1), counted.unsqueeze(-1))

    def _soft_formula(self, output: Tensor | LinearLogits, target: Tensor) -> RowFormula:
        return SoftCrossEntropy(target, self._of_logits, self._options(self._weight_of_classes(output)))

    def _index_formula(self, output: Tensor | LinearLogits, target: Tensor, counted: Tensor) -> RowFormula:
        present = target != self.ignore_index
        return IndexCrossEntropy(
            target,
            counted,
            present,
            self._of_logits,
            classes_of(output),
            self._options(self._weight_of_classes(output)),
        )

    def _weight_of_classes(self, output: Tensor | LinearLogits) -> Tensor | None:
        if self.class_weight is None:
            return None
        if self.class_weight.numel() != classes_of(output):
            shape = (*output.positions, output.classes) if isinstance(output, LinearLogits) else tuple(output.shape)
            raise InputError(
                f"class_weight holds {self.class_weight.numel()} numbers, the logits {shape} have "
                f"{classes_of(output)} classes; give one number per class"
            )
        return self.class_weight.to(dtype_of(output))


def classes_of(output: Tensor | LinearLogits) -> int:
    return output.classes if isinstance(output, LinearLogits) else output.shape[1]


def dtype_of(output: Tensor | LinearLogits) -> torch.dtype:
    return output.features.dtype if isinstance(output, LinearLogits) else output.dtype


def denominator_of(counted: Tensor | None, weight: Tensor | None, positions: int) -> Tensor | int:
    """Return what a mean divides by, from what every position counts."""
    if counted is None:
        return positions if weight is None else weight.sum()
    return (counted if weight is None else weighted(counted, weight)).sum()
