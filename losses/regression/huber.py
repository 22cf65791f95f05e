"""Huber loss: quadratic for small residuals, linear for large ones."""

from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    POINTWISE,
    SYMMETRIC,
    ZERO_AT_TARGET,
    ElementwiseLoss,
    Fits,
    Positive,
    Reduction,
    checked,
    register,
    require_same_shape,
    scales,
)
from losses.ops.elementwise import formulas
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.fused import fused_huber


def huber(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Return the Huber loss of every element, unreduced; see :class:`HuberLoss`."""
    require_same_shape(prediction=prediction, target=target)
    residual = prediction - target
    clipped = residual.clamp(-delta, delta)  # this is also the gradient: Huber clips it at delta
    return clipped * (residual - clipped / 2)


@register(
    "huber",
    inputs=POINTWISE,
    laws=(NON_NEGATIVE, ZERO_AT_TARGET, SYMMETRIC, scales(2, "delta")),
    suits="regression whose targets hold outliers, with a smooth gradient near zero",
    fits=Fits(
        task=("regression",),
        outliers="the gradient is at most delta",
    ),
    source="P. J. Huber, Robust Estimation of a Location Parameter, 1964, doi:10.1214/aoms/1177703732",
)
class HuberLoss(ElementwiseLoss):
    r"""Squared error close to the target, absolute error far from it.

    .. math::
        \ell(r) = \begin{cases}
            r^2 / 2                         & |r| \le \delta \\
            \delta \, (|r| - \delta / 2)    & |r| > \delta
        \end{cases}
        \qquad r = \text{prediction} - \text{target}

    Smooth L1 with its own ``beta`` is this loss with ``delta=beta``, divided by ``beta``.

    Args:
        delta: :math:`\delta`, residual at which the loss turns from quadratic to linear.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        prediction, target: ``(*)``, the same. Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        ``delta`` is in the unit of the target; the loss is in its square.

    Raises:
        ConfigError: ``delta`` is not a positive finite number, or ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast) or are not floating point.

    >>> HuberLoss(delta=1.0, reduction="none")(tensor([0.5, -3.0]), tensor([0.0, 0.0]))
    tensor([0.1250, 2.5000])
    """

    @checked
    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.delta = delta
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return huber(prediction, target, delta=self.delta)

    def block_formula(self) -> Formula:
        return formulas.huber(self.delta)

    def fused(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        return fused_huber(prediction, target, reduction, self.delta)
