"""Regression: torch's own, scikit-learn, scipy, and mpmath in fifty digits."""

from __future__ import annotations

from collections.abc import Callable

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

from tests.oracles.case import OracleBatch, OracleCase, normal, numpied, unreduced


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
