"""Regression: torch's own, scikit-learn, scipy, and mpmath in fifty digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import mpmath
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.distributions import Normal, Poisson

from losses import Gaussian
from tests.oracles.case import Answer, OracleBatch, OracleCase, normal, numpied, uniform, unreduced


def numbers(*shape: int) -> Callable[[Generator], OracleBatch]:
    return lambda random: OracleBatch(normal(random, *shape), normal(random, *shape))


def mpmath_log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    with mpmath.workdps(50):
        pairs = zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
        values = [float(mpmath.log(mpmath.cosh(mpmath.mpf(p) - mpmath.mpf(t)))) for p, t in pairs]
    return torch.tensor(values, dtype=torch.float64).reshape(prediction.shape)


def far_and_near(random: Generator) -> OracleBatch:
    """Return residuals from a ten-thousandth to a thousand."""
    scale = 10.0 ** torch.arange(-4, 4, dtype=torch.float64)
    return OracleBatch((normal(random, 8).detach() * scale).requires_grad_(), torch.zeros(8, dtype=torch.float64))


def quantiles_of_numbers(count: int, *shape: int) -> Callable[[Generator], OracleBatch]:
    return lambda random: OracleBatch(normal(random, *shape, count), normal(random, *shape))


def scikit_learn_pinball(*quantiles: float) -> Answer:
    """Return the mean of scikit-learn's losses of every quantile."""

    def value(prediction: Tensor, target: Tensor) -> float:
        sides = prediction.detach().numpy().reshape(-1, len(quantiles)).T
        wanted = target.detach().numpy().reshape(-1)
        each = [
            sklearn.metrics.mean_pinball_loss(wanted, one, alpha=q) for one, q in zip(sides, quantiles, strict=True)
        ]
        return sum(each) / len(each)

    return value


def pinball_loop(*quantiles: float) -> Answer:
    """Koenker and Bassett 1978, eq. 3.1, number by number."""

    def items(prediction: Tensor, target: Tensor) -> Tensor:
        values = []
        for row, wanted in zip(prediction.reshape(-1, len(quantiles)), target.reshape(-1), strict=True):
            for one, q in zip(row, quantiles, strict=True):
                values.append(q * (wanted - one) if wanted >= one else (1 - q) * (one - wanted))
        return torch.stack(values).reshape(prediction.shape)

    return items


def gaussians(*shape: int) -> Callable[[Generator], OracleBatch]:
    return lambda random: OracleBatch(Gaussian(normal(random, *shape), normal(random, *shape)), normal(random, *shape))


def gaussian_log_likelihood(output: Gaussian, target: Tensor) -> Tensor:
    return -Normal(output.mean, (output.log_variance / 2).exp()).log_prob(target)


def without_its_constant(output: Gaussian, target: Tensor) -> Tensor:
    return gaussian_log_likelihood(output, target) - math.log(2 * math.pi) / 2


def torch_gaussian(output: Gaussian, target: Tensor, full: bool = False) -> Tensor:
    return F.gaussian_nll_loss(output.mean, target, output.log_variance.exp(), full=full, eps=1e-30, reduction="none")


def counts(*shape: int) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        return OracleBatch(normal(random, *shape), torch.poisson(4 * uniform(random, *shape), generator=random))

    return draw


def poisson_log_likelihood(log_rates: Tensor, target: Tensor) -> Tensor:
    return -Poisson(log_rates.exp()).log_prob(target)


def poisson_loop(log_rates: Tensor, target: Tensor) -> Tensor:
    """The logarithm of rate^count exp(-rate) / count!, count by count, with an exact factorial."""
    with mpmath.workdps(50):
        values = [
            float(mpmath.exp(mpmath.mpf(eta)) - mpmath.mpf(eta) * int(count) + mpmath.log(math.factorial(int(count))))
            for eta, count in zip(log_rates.flatten().tolist(), target.flatten().tolist(), strict=True)
        ]
    return torch.tensor(values, dtype=torch.float64).reshape(log_rates.shape)


MSE = [
    OracleCase("torch", numbers(5, 3), items=unreduced(F.mse_loss)),
    OracleCase("one_dimension", numbers(7), items=unreduced(F.mse_loss)),
    OracleCase("scalar", numbers(), items=unreduced(F.mse_loss)),
    OracleCase("scikit_learn", numbers(7), value=numpied(sklearn.metrics.mean_squared_error), differentiable=False),
]
MAE = [
    OracleCase("torch", numbers(5, 3), items=unreduced(F.l1_loss)),
    OracleCase("scalar", numbers(), items=unreduced(F.l1_loss)),
    OracleCase("scikit_learn", numbers(7), value=numpied(sklearn.metrics.mean_absolute_error), differentiable=False),
]
HUBER = [
    OracleCase("torch", numbers(5, 3), items=unreduced(F.huber_loss)),
    *(
        OracleCase(f"torch_{delta}", numbers(5, 3), {"delta": delta}, items=unreduced(F.huber_loss, delta=delta))
        for delta in (0.1, 0.5, 3.0)
    ),
    OracleCase(
        "scipy",
        numbers(4, 5),
        {"delta": 0.7},
        items=numpied(lambda prediction, target: scipy.special.huber(0.7, prediction - target)),
        differentiable=False,
    ),
    OracleCase(
        "smooth_l1_times_beta",
        numbers(9),
        {"delta": 0.4},
        items=lambda p, t: 0.4 * F.smooth_l1_loss(p, t, beta=0.4, reduction="none"),
    ),
]
LOG_COSH = [
    OracleCase("mpmath", numbers(5, 3), items=mpmath_log_cosh, differentiable=False),
    OracleCase("mpmath_far_and_near", far_and_near, items=mpmath_log_cosh, differentiable=False),
    OracleCase("lines", numbers(4, 2), items=lambda p, t: torch.log(torch.cosh(p - t))),
    OracleCase("scalar", numbers(), items=lambda p, t: torch.log(torch.cosh(p - t))),
]
SEVERAL = [0.1, 0.5, 0.95]
QUANTILE = [
    OracleCase("loop", numbers(5, 3), items=pinball_loop(0.5)),
    OracleCase("scalar", numbers(), items=pinball_loop(0.5)),
    *(OracleCase(f"loop_{q}", numbers(5, 3), {"quantile": q}, items=pinball_loop(q)) for q in (0.05, 0.75, 0.99)),
    OracleCase("loop_several", quantiles_of_numbers(3, 4, 2), {"quantile": SEVERAL}, items=pinball_loop(*SEVERAL)),
    OracleCase("loop_list_of_one", quantiles_of_numbers(1, 4), {"quantile": [0.3]}, items=pinball_loop(0.3)),
    *(
        OracleCase(
            f"scikit_learn_{q}", numbers(9), {"quantile": q}, value=scikit_learn_pinball(q), differentiable=False
        )
        for q in (0.2, 0.9)
    ),
    OracleCase(
        "scikit_learn_several",
        quantiles_of_numbers(3, 7),
        {"quantile": SEVERAL},
        value=scikit_learn_pinball(*SEVERAL),
        differentiable=False,
    ),
]
GAUSSIAN_NLL = [
    OracleCase("torch_distributions", gaussians(5, 3), {"full": True}, items=gaussian_log_likelihood),
    OracleCase("torch_distributions_without_constant", gaussians(5, 3), items=without_its_constant),
    OracleCase("scalar", gaussians(), items=without_its_constant),
    OracleCase("torch", gaussians(7), items=torch_gaussian),
    OracleCase("torch_full", gaussians(7), {"full": True}, items=partial(torch_gaussian, full=True)),
]
POISSON_NLL = [
    OracleCase("torch_distributions", counts(5, 3), {"full": True}, items=poisson_log_likelihood),
    OracleCase("torch", counts(5, 3), items=unreduced(F.poisson_nll_loss, log_input=True)),
    OracleCase("scalar", counts(), items=unreduced(F.poisson_nll_loss, log_input=True)),
    OracleCase("mpmath", counts(6), {"full": True}, items=poisson_loop, differentiable=False),
]
