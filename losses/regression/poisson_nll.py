"""Negative log-likelihood of counts whose rate is predicted."""

from torch import Tensor

from losses.extend import (
    COUNTS,
    LEAST_AT_LOG_TARGET,
    ElementwiseLoss,
    Fits,
    Reduction,
    checked,
    register,
    require_same_shape,
    widened,
)
from losses.ops.eager import may_read
from losses.ops.elementwise import element_arrays, formulas
from losses.ops.elementwise.element_arrays import ArrayFormula
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.fused import fused_poisson_nll
from losses.ops.numerics.exponential import exp_and_tangent, largest_exponent, log_factorial


def poisson_nll(log_rates: Tensor, target: Tensor, *, full: bool = False) -> Tensor:
    """Return the negative log-likelihood of every count, unreduced; see :class:`PoissonNLLLoss`."""
    require_same_shape(log_rates=log_rates, target=target)
    largest = largest_exponent(log_rates.dtype)  # of the dtype that the gradient has to fit into
    log_rates = widened(log_rates)
    values = exp_and_tangent(log_rates, largest) - target * log_rates
    return values + log_factorial(target) if full else values


@register(
    "poisson_nll",
    inputs=COUNTS,
    laws=(LEAST_AT_LOG_TARGET,),
    suits="regression of counts: how many, of what happens independently at some rate",
    fits=Fits(task=("count_regression",)),
    source="P. McCullagh, J. A. Nelder, Generalized Linear Models, 2nd edition, 1989, chapter 6",
)
class PoissonNLLLoss(ElementwiseLoss):
    r"""How surprising a count is at a predicted rate.

    .. math::
        \ell = e^{\eta} - y\, \eta \;\Big[ + \log y! \Big]

    :math:`\eta` is the predicted logarithm of the rate and :math:`y` the count. It is smallest where the rate is the
    mean count. A log-rate above 71 (in float16, whose largest number is 65504, above 8.9) goes on along the tangent of
    exp, so that value and gradient are finite for any input.

    Args:
        full: whether :math:`\log y!`, which no prediction changes, is added, with which it is the likelihood itself.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one count.

    Shapes:
        log-rates, target: ``(*)``, the same. Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: ``full`` is neither true nor false, or ``reduction`` is unknown.
        InputError: the tensors differ in shape (nothing is broadcast), the log-rates are not floating point, or a count
            is below 0.

    >>> PoissonNLLLoss(reduction="none")(tensor([0.0, 0.0]), tensor([0, 3]))  # exp 0 - 0, exp 0 - 0: at a rate of 1
    tensor([1., 1.])
    >>> PoissonNLLLoss(full=True)(tensor([0.0]), tensor([3]))  # 1 + log 6
    tensor(2.7918)
    """

    many_operations = True

    @checked
    def __init__(self, *, full: bool = False, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.full = full
        self.reduction = reduction

    def items(self, log_rates: Tensor, target: Tensor) -> Tensor:
        return poisson_nll(log_rates, target, full=self.full)

    def block_formula(self) -> Formula:
        return formulas.poisson(self.full)

    def array_formula(self) -> ArrayFormula | None:
        return None if self.full else element_arrays.poisson

    def fused(self, log_rates: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        if self.full or log_rates.dtype is not target.dtype or not may_read(log_rates) or not log_rates.numel():
            return None
        if not log_rates.detach().amax().item() <= largest_exponent(log_rates.dtype):
            return None
        return fused_poisson_nll(log_rates, target, reduction)
