"""Mean squared error."""

from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    POINTWISE,
    SYMMETRIC,
    TRANSLATION_INVARIANT,
    ZERO_AT_TARGET,
    ElementwiseLoss,
    Fits,
    Reduction,
    checked,
    register,
    require_same_shape,
    scales,
)
from losses.ops.elementwise.formulas import SQUARED, Formula
from losses.ops.elementwise.fused import fused_mse


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of every element, unreduced; see :class:`MSELoss`."""
    require_same_shape(prediction=prediction, target=target)
    return (prediction - target).square()


@register(
    "mse",
    aliases=("l2",),
    inputs=POINTWISE,
    laws=(NON_NEGATIVE, ZERO_AT_TARGET, SYMMETRIC, TRANSLATION_INVARIANT, scales(2)),
    suits="regression with noise of one size everywhere; predicts the mean",
    fits=Fits(
        task=("regression",),
        against={"outliers": "the gradient grows with the residual"},
    ),
    source="C. F. Gauss, Theoria combinationis observationum erroribus minimis obnoxiae, 1823",
)
class MSELoss(ElementwiseLoss):
    r"""Squared difference between prediction and target.

    .. math::
        \ell(r) = r^2 \qquad r = \text{prediction} - \text{target}

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        prediction, target: ``(*)``, the same. Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        The loss is in the square of the target's unit.

    Raises:
        ConfigError: ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast) or are not floating point.

    >>> MSELoss()(tensor([1.0, 5.0]), tensor([1.0, 2.0]))  # (0 + 9) / 2
    tensor(4.5000)
    """

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return mse(prediction, target)

    def block_formula(self) -> Formula:
        return SQUARED

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        return fused_mse(prediction, target, reduction)
