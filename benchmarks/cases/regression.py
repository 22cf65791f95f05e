"""Losses of single numbers against torch.nn and, with weights, the line one writes: from a thousand to ten million.

float32, forward and backward. Nothing is timed before its value and gradient were seen to be the peer's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import losses
from benchmarks.cases.elementwise import leaf, of_lines, of_torch, rows, seeded, weighted
from benchmarks.harness.comparison.case import Batch, Case
from benchmarks.peers import lines

WHAT = "float32, one weight for each number where there are weights"
SHAPE = "numbers"


def numbers(size: int, device: str = "cpu") -> Batch:
    """Return predictions and targets, both scattered about 0."""
    prediction, target = torch.randn(2, size, generator=seeded())
    return Batch((leaf(prediction, device),), (target.to(device),))


def several(size: int, device: str = "cpu") -> Batch:
    """Return predictions of several quantiles of each target, both scattered about 0."""
    prediction, target = torch.randn(size, len(lines.LEVELS), generator=seeded()), torch.randn(size, generator=seeded())
    return Batch((leaf(prediction, device),), (target.to(device),))


def counted(size: int, device: str = "cpu") -> Batch:
    """Return log-rates, and counts of a rate of 2."""
    log_rates = torch.randn(size, generator=seeded())
    return Batch((leaf(log_rates, device),), (torch.poisson(torch.full((size,), 2.0), seeded()).to(device),))


def spread_out(size: int, device: str = "cpu") -> Batch:
    """Return means, log-variances and targets, all scattered about 0."""
    mean, log_variance, target = torch.randn(3, size, generator=seeded())
    return Batch((leaf(mean, device), leaf(log_variance, device)), (target.to(device),))


def as_gaussian(loss: losses.Loss, *batch: Any) -> Tensor:
    """Call a loss with means and log-variances, the target and perhaps weights."""
    output, target, *weight = losses.Gaussian(*batch[:2]), *batch[2:]
    return loss(output, target, weight=weight[0] if weight else None)


def gaussian(text: str, size: int, faster: float | None = None) -> tuple[Case, Case]:
    """Return the cases of a Gaussian likelihood, without and with weights."""
    row = partial(Case, shape=(size,), loss="gaussian_nll", call=as_gaussian)
    return (
        row(f"gaussian-nll-{text}", batch=spread_out, peer=of_lines(lines.gaussian_nll), faster=faster),
        row(
            f"gaussian-nll-weighted-{text}",
            batch=partial(weighted, spread_out),
            peer=of_lines(lines.weighted_gaussian_nll),
        ),
    )


# Of log-cosh the lines take a softplus, which is less to compute and loses the digits of small residuals; those of
# poisson_nll do not look whether a rate is beyond the range. So nothing is asked of few numbers there, where that and
# the checks of a call are most of the time.
CASES = (
    *rows("mse", "mse", numbers, (of_torch(nn.MSELoss), of_lines(lines.weighted_mse)), {"1e3": 0.9, "1e7": 1.5}),
    *rows("mae", "mae", numbers, (of_torch(nn.L1Loss), of_lines(lines.weighted_mae)), {"1e7": 2.0}),
    *rows(
        "huber", "huber", numbers, (of_torch(nn.HuberLoss), of_lines(lines.weighted_huber)), {"1e3": 0.9, "1e7": 1.5}
    ),
    *rows(
        "log-cosh",
        "log_cosh",
        numbers,
        (of_lines(lines.log_cosh), of_lines(lines.weighted_log_cosh)),
        {"1e6": 1.5, "1e7": 1.5},
        {"1e6": 1.0, "1e7": 1.5},
    ),
    *rows(
        "quantile",
        "quantile",
        numbers,
        (of_lines(lines.quantile), of_lines(lines.weighted_quantile)),
        {"1e3": 0.9, "1e7": 1.5},
        quantile=lines.LEVEL,
    ),
    *rows(
        "poisson-nll",
        "poisson_nll",
        counted,
        (of_torch(nn.PoissonNLLLoss), of_lines(lines.weighted_poisson_nll)),
        {"1e6": 1.5, "1e7": 1.5},
        {"1e6": 1.5, "1e7": 1.5},
    ),
    *gaussian("1e3", 10**3, 0.7),
    *gaussian("1e6", 10**6, 1.0),
    *(
        Case(
            f"quantiles-{text}",
            (size,),
            "quantile",
            several,
            parameters={"quantile": lines.LEVELS},
            peer=of_lines(lines.quantiles),
            faster=0.9,
        )
        for text, size in {"1e3": 10**3, "1e6": 10**6}.items()
    ),
)
