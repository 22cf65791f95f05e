"""Log-cosh loss: quadratic for small residuals, linear for large ones, and smooth in between."""

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
)
from losses.ops.elementwise import element_arrays
from losses.ops.elementwise.element_arrays import ArrayFormula
from losses.ops.elementwise.formulas import LINEAR_BEYOND, LOG_COSH, Formula


def log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the log-cosh loss of every element, unreduced; see :class:`LogCoshLoss`."""
    require_same_shape(prediction=prediction, target=target)
    residual = prediction - target
    clipped = residual.clamp(-LINEAR_BEYOND, LINEAR_BEYOND)
    # cosh² = 1 + sinh², of which log1p keeps the digits of small residuals; cosh itself soon overflows
    return clipped.sinh().square().log1p() / 2 + (residual - clipped).abs()


@register(
    "log_cosh",
    inputs=POINTWISE,
    laws=(NON_NEGATIVE, ZERO_AT_TARGET, SYMMETRIC, TRANSLATION_INVARIANT),
    suits="regression whose targets hold outliers, where second derivatives have to be smooth too",
    fits=Fits(
        task=("regression",),
        outliers="the gradient is at most 1",
    ),
    source="R. A. Saleh, A. K. M. E. Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine "
    "Learning, 2022, arXiv:2208.04564",
)
class LogCoshLoss(ElementwiseLoss):
    r"""Half the square of a small residual, the absolute value of a large one less log 2.

    .. math::
        \ell(r) = \log \cosh r \qquad r = \text{prediction} - \text{target}

    The derivative is :math:`\tanh r`. It is finite for any residual. It turns from quadratic to linear at about 1, so
    targets should be of that size: ``huber`` has a ``delta`` for others.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        prediction, target: ``(*)``, the same. Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        None: residuals are taken as pure numbers, and the loss is one.

    Raises:
        ConfigError: ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast) or are not floating point.

    >>> LogCoshLoss(reduction="none")(tensor([0.0, 100.0]), tensor([0.0, 0.0]))  # log 1, 100 - log 2
    tensor([ 0.0000, 99.3069])
    """

    many_operations = True

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return log_cosh(prediction, target)

    def block_formula(self) -> Formula:
        return LOG_COSH

    def array_formula(self) -> ArrayFormula:
        return element_arrays.log_cosh
