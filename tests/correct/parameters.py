"""Losses with parameters of every annotation, and two that cannot keep every clause and say why."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses.extend import (
    BINARY,
    DISTRIBUTIONS,
    EMBEDDINGS,
    NON_NEGATIVE,
    POINTWISE,
    AnchorLoss,
    AnchorRows,
    AtLeastOne,
    Distance,
    DistributionForm,
    ElementwiseLoss,
    Integer,
    Loss,
    NestedLoss,
    Reduction,
    Vector,
    checked,
    has_both,
    register_values,
)
from losses.ops.numerics.log_space import log_probabilities, masked_log_sum
from tests.correct.declaring import correct


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t) ** 2).log1p().mean())
class Redescending(ElementwiseLoss):
    """A choice of three formulas for outliers, shifted or not."""

    @checked
    def __init__(
        self,
        *,
        formula: Literal["cauchy", "charbonnier", "welsch"] = "cauchy",
        halved: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.formula = formula
        self.halved = halved
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        squared = residual.square() / 2 if self.halved else residual.square()
        if self.formula == "cauchy":
            return squared.log1p()
        return squared / ((1 + squared).sqrt() + 1) if self.formula == "charbonnier" else -torch.expm1(-squared)


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t).abs() ** 3).mean())
class Power(ElementwiseLoss):
    """Absolute residual to a power."""

    @checked
    def __init__(self, *, power: AtLeastOne = 3.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.power = power
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs() ** self.power


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t) ** 2).mean() / 2)
class Halved(Loss):
    """Another loss, over a divisor that is an integer."""

    @checked
    def __init__(self, *, inner: NestedLoss = "mse", divisor: Integer = 2, reduction: Reduction = "mean") -> None:
        super().__init__()
        assert isinstance(inner, Loss)
        self.inner = inner
        self.divisor = divisor
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.inner.items(prediction, target) / self.divisor


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: ((o - t - 0.5) ** 2).mean())
class Offset(ElementwiseLoss):
    """Squared residual about offsets that are given, one for all or their mean."""

    offsets: Tensor

    @checked
    def __init__(self, *, offsets: Vector = (0.25, 0.75), reduction: Reduction = "mean") -> None:
        super().__init__()
        register_values(self, offsets=offsets)
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target - self.offsets.mean().to(prediction)).square()


@correct(
    DISTRIBUTIONS, NON_NEGATIVE, oracle=lambda o, t: ((o.softmax(-1) - t) ** 2 / (o.softmax(-1) + t)).sum(-1).mean()
)
class TriangularDiscrimination(Loss):
    """Squared difference over the sum: a bounded relative of chi-square."""

    @checked
    def __init__(
        self,
        *,
        output_form: DistributionForm = "logits",
        target_form: DistributionForm = "probs",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.output_form = output_form
        self.target_form = target_form
        self.reduction = reduction

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        first, second = probabilities(output, self.output_form), probabilities(target, self.target_form)
        both = first + second
        nothing = both == 0
        return ((first - second).square() / both.masked_fill(nothing, 1)).sum(-1)


def triangular(first: Tensor, second: Tensor) -> Tensor:
    return ((first - second) ** 2 / (first + second)).sum(-1).mean()


def probabilities(values: Tensor, form: DistributionForm) -> Tensor:
    return values if form == "probs" else log_probabilities(values, form).exp()


@correct(EMBEDDINGS, NON_NEGATIVE)
class LiftedRows(AnchorLoss):
    """Farthest positive against nearest negative, both softly, in the distance that is chosen."""

    @checked
    def __init__(self, *, distance: Distance = "euclidean", reduction: Reduction = "mean") -> None:
        super().__init__()
        self.distance = distance
        self.reduction = reduction

    @property
    def measure(self) -> str:
        return self.distance

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        farthest = masked_log_sum(rows.positives, rows.is_positive)
        nearest = masked_log_sum(1 - rows.negatives, rows.is_negative)
        return (farthest + nearest).relu().masked_fill(~has_both(rows.is_positive, rows.is_negative), 0)

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor:
        return has_both(is_positive, is_negative)


@correct(BINARY, NON_NEGATIVE)
class ConstantFocus(ElementwiseLoss):
    """Cross-entropy times how wrong the model is, which is a constant in the gradient."""

    exemptions: ClassVar[dict[str, str]] = dict.fromkeys(
        ("first_derivative", "gradient_everywhere", "second_derivative", "target_derivative"),
        "how wrong the model is counts as a constant in the gradient, by definition",
    )

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        wrong = (logits.sigmoid() - target).abs().detach()
        return wrong * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class Sine(torch.autograd.Function):
    """One minus the cosine, with a derivative by hand."""

    @staticmethod
    def forward(residual: Tensor) -> Tensor:
        return 2 * (residual / 2).sin().square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream * ctx.saved_tensors[0].sin()


@correct(POINTWISE, NON_NEGATIVE, oracle=lambda o, t: (1 - (o - t).cos()).mean())
class Angle(ElementwiseLoss):
    """Difference of two angles, by a function with a derivative of its own."""

    exemptions: ClassVar[dict[str, str]] = {
        "second_derivative": "its derivative is written by hand and has none",
        "forward_mode": "it has a rule for backward alone",
        "func_vmap": "it has no rule for batches of problems",
        "rounding": "the difference of two large angles is rounded before it is taken modulo a turn",
    }

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items: Tensor = Sine.apply(prediction - target)
        return items
