"""Quantile loss (pinball): residuals above and below count differently, so that a quantile is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    QUANTILES,
    TRANSLATION_INVARIANT,
    ConfigError,
    ElementwiseLoss,
    Fits,
    InnerProbability,
    InnerProbabilityVector,
    Problem,
    Reduction,
    checked,
    register,
    register_values,
    require_same_shape,
    scales,
    widened,
)
from losses.ops.elementwise import element_arrays, formulas
from losses.ops.elementwise.arrays import array
from losses.ops.elementwise.element_arrays import ArrayFormula
from losses.ops.elementwise.formulas import Formula


def pinball(prediction: Tensor, target: Tensor, *, quantile: float | Tensor = 0.5) -> Tensor:
    """Return the quantile loss of every element, unreduced; see :class:`QuantileLoss`."""
    require_same_shape(prediction=prediction, target=target)
    residual = prediction - target
    return torch.maximum((1 - quantile) * residual, -quantile * residual)


@register(
    "quantile",
    aliases=("pinball",),
    inputs=QUANTILES,
    laws=(NON_NEGATIVE, TRANSLATION_INVARIANT, scales(1)),
    suits="intervals and forecasts: predicts a quantile in place of the mean, or several at once",
    fits=Fits(
        task=("regression",),
        outliers="the gradient is the same for any residual; with quantile=0.5 it predicts the median",
        intervals="a quantile for each end, whatever the shape of the noise",
    ),
    source="R. Koenker, G. Bassett, Regression Quantiles, 1978, doi:10.2307/1913643",
)
class QuantileLoss(ElementwiseLoss):
    r"""What a prediction lies too high times one factor, what it lies too low times another.

    .. math::
        \ell(r) = \max\big((1 - \tau)\, r,\ -\tau\, r\big) \qquad r = \text{prediction} - \text{target}

    It is smallest where a fraction :math:`\tau` of the targets lies below the prediction. With ``quantile=0.5`` it is
    half the absolute error.

    Args:
        quantile: :math:`\tau`, between 0 and 1, both excluded; or a rising list of Q of them, all of which are
            predicted.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element of the prediction.

    Shapes:
        prediction, target: ``(*)``, the same; of a list of Q quantiles the prediction is ``(*, Q)``. Returns ``()``, or
        the shape of the prediction if nothing is reduced.

    Units:
        The loss is in the unit of the target.

    Raises:
        ConfigError: ``quantile`` is not between 0 and 1, or a list of them does not rise, or ``reduction`` is unknown.
        InputError: the tensors do not fit together (nothing is broadcast) or are not floating point.

    >>> QuantileLoss(quantile=0.9, reduction="none")(tensor([0.0, 4.0]), tensor([1.0, 1.0]))  # 0.9 * 1, 0.1 * 3
    tensor([0.9000, 0.3000])
    >>> QuantileLoss(quantile=[0.25, 0.75])(tensor([[1.0, 4.0]]), tensor([2.0]))  # (0.25 * 1 + 0.25 * 2) / 2
    tensor(0.3750)
    """

    many_operations = True
    quantile: float | Tensor

    @checked
    def __init__(
        self, *, quantile: InnerProbability | InnerProbabilityVector = 0.5, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        if isinstance(quantile, Sequence):
            for former, later in pairwise(quantile):
                if not former < later:
                    message = f"got {later:g} after {former:g}, expected a rising list; sort it, and the outputs"
                    raise ConfigError(Problem(("quantile",), message))
        register_values(self, quantile=quantile)
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        quantile = self.quantile
        if isinstance(quantile, Tensor):
            quantile = quantile.to(prediction.dtype)
        return pinball(prediction, target, quantile=quantile)

    def block_formula(self) -> Formula | None:
        return None if isinstance(self.quantile, Tensor) else formulas.pinball(self.quantile)

    def array_formula(self) -> ArrayFormula:
        quantile = array(widened(self.quantile)) if isinstance(self.quantile, Tensor) else self.quantile
        return partial(element_arrays.pinball, quantile=quantile)
