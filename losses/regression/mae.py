"""Mean absolute error."""

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
from losses.ops.elementwise.formulas import ABSOLUTE, Formula


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the absolute error of every element, unreduced; see :class:`MAELoss`."""
    require_same_shape(prediction=prediction, target=target)
    return (prediction - target).abs()


@register(
    "mae",
    aliases=("l1",),
    inputs=POINTWISE,
    laws=(NON_NEGATIVE, ZERO_AT_TARGET, SYMMETRIC, TRANSLATION_INVARIANT, scales(1)),
    suits="regression whose targets hold outliers; predicts the median",
    fits=Fits(
        task=("regression",),
        outliers="the gradient is the same for any residual; it predicts the median",
    ),
    source="R. J. Boscovich, De litteraria expeditione per pontificiam ditionem, 1757",
)
class MAELoss(ElementwiseLoss):
    r"""Absolute difference between prediction and target, with gradient 0 where they are equal.

    .. math::
        \ell(r) = |r| \qquad r = \text{prediction} - \text{target}

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        prediction, target: ``(*)``, the same. Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        The loss is in the unit of the target.

    Raises:
        ConfigError: ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast) or are not floating point.

    >>> MAELoss()(tensor([1.0, 5.0]), tensor([1.0, 2.0]))  # (0 + 3) / 2
    tensor(1.5000)
    """

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return mae(prediction, target)

    def block_formula(self) -> Formula:
        return ABSOLUTE
