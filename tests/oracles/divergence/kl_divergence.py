"""Kullback-Leibler: a loop over outcomes, scipy, mpmath in fifty digits, and torch.distributions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    Laplace,
    Normal,
)
from torch.distributions import kl_divergence as torch_kl

from tests.oracles.case import Answer, OracleBatch, OracleCase, normal, numpied, positive, probabilities
from tests.oracles.divergence.distributions import FORMS, against_zeros, as_probs, distributions, relative_entropy_loop


def kl_loop(
    output_form: str = "logits", target_form: str = "probs", direction: str = "forward", temperature: float = 1.0
) -> Answer:
    def items(first: Tensor, second: Tensor) -> Tensor:
        o, t = as_probs(first, output_form, temperature), as_probs(second, target_form, temperature)
        return temperature**2 * (relative_entropy_loop(t, o) if direction == "forward" else relative_entropy_loop(o, t))

    return items


def kl_case(name: str, *shape: int, **parameters: Any) -> OracleCase:
    draw = distributions(parameters.get("output_form", "logits"), parameters.get("target_form", "probs"), *shape)
    return OracleCase(name, draw, parameters, items=kl_loop(**parameters))


def scipy_kl(direction: str = "forward") -> Answer:
    def items(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        probs = scipy.special.softmax(logits, axis=-1)
        return scipy.special.rel_entr(*((target, probs) if direction == "forward" else (probs, target))).sum(-1)

    return numpied(items)


def mpmath_kl(logits: Tensor, target: Tensor) -> list[float]:
    """Return KL(target || softmax(logits)) in fifty digits."""
    with mpmath.workdps(50):
        values = []
        for row, wanted in zip(logits.tolist(), target.tolist(), strict=True):
            partition = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in row))
            values.append(
                float(mpmath.fsum(t * (mpmath.log(t) - x + partition) for x, t in zip(row, wanted, strict=True) if t))
            )
        return values


def objects(
    make: Callable[..., Distribution], *parameters: Callable[[Generator], Tensor]
) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        leaves = [parameter(random) for parameter in (*parameters, *parameters)]
        return OracleBatch(make(*leaves[: len(parameters)]), make(*leaves[len(parameters) :]), leaves=tuple(leaves))

    return draw


def torch_kl_items(direction: str) -> Answer:
    return lambda output, target: torch_kl(target, output) if direction == "forward" else torch_kl(output, target)


def normal_kl_by_hand(output: Normal, target: Normal) -> Tensor:
    """KL(N(m1, s1) || N(m2, s2)) of the target from the output, written out."""
    (m1, s1), (m2, s2) = (target.loc, target.scale), (output.loc, output.scale)
    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def real(*shape: int) -> Callable[[Generator], Tensor]:
    return lambda random: normal(random, *shape)


def above_zero(*shape: int) -> Callable[[Generator], Tensor]:
    return lambda random: positive(random, *shape)


OBJECTS = {
    "normal": objects(Normal, real(4, 2), above_zero(4, 2)),
    "independent_normal": objects(
        lambda mean, scale: Independent(Normal(mean, scale), 1), real(4, 2), above_zero(4, 2)
    ),
    "gamma": objects(Gamma, above_zero(4), above_zero(4)),
    "beta": objects(Beta, above_zero(4), above_zero(4)),
    "laplace": objects(Laplace, real(4), above_zero(4)),
    "dirichlet": objects(Dirichlet, above_zero(3, 4)),
    "categorical": objects(lambda logits: Categorical(logits=logits), real(3, 4)),
    "bernoulli": objects(lambda logits: Bernoulli(logits=logits), real(5)),
}

KL_DIVERGENCE = [
    *(
        kl_case(
            f"{output}_against_{target}_{direction}_temperature_{temperature:g}",
            output_form=output,
            target_form=target,
            **more,
        )
        for output, target in itertools.product(FORMS, FORMS)
        for direction, temperature in itertools.product(("forward", "reverse"), (1.0, 2.5))
        for more in [{"direction": direction, "temperature": temperature}]
    ),
    kl_case("one_distribution", 5),
    kl_case("leading_dimensions", 2, 3, 4),
    kl_case("temperature_below_one", temperature=0.5),
    OracleCase("scipy", distributions("logits", "probs"), items=scipy_kl(), differentiable=False, tangent=True),
    OracleCase(
        "scipy_reverse",
        distributions("logits", "probs"),
        {"direction": "reverse"},
        items=scipy_kl("reverse"),
        differentiable=False,
        tangent=True,
    ),
    OracleCase(
        "scipy_zeros",
        against_zeros,
        items=scipy_kl(),
        differentiable=False,
    ),
    OracleCase(
        "mpmath",
        lambda random: OracleBatch((30 * normal(random, 4, 5)).detach().requires_grad_(), probabilities(random, 4, 5)),
        items=mpmath_kl,
        differentiable=False,
    ),
    OracleCase(
        "torch_kl_div_batchmean",
        distributions("log_probs", "probs"),
        {"output_form": "log_probs"},
        value=lambda o, t: F.kl_div(o, t, reduction="batchmean"),
        items=lambda o, t: F.kl_div(o, t, reduction="none").sum(-1),
    ),
    OracleCase(
        "torch_kl_div_log_target",
        distributions("log_probs", "log_probs"),
        {"output_form": "log_probs", "target_form": "log_probs"},
        value=lambda o, t: F.kl_div(o, t, reduction="batchmean", log_target=True),
    ),
    OracleCase(
        "torch_categorical",
        distributions("logits", "logits"),
        {"target_form": "logits"},
        items=lambda o, t: torch_kl(Categorical(logits=t), Categorical(logits=o)),
    ),
    OracleCase(
        "torch_categorical_probs_reverse",
        distributions("probs", "probs"),
        {"output_form": "probs", "direction": "reverse"},
        items=lambda o, t: torch_kl(Categorical(probs=o), Categorical(probs=t)),
        tangent=True,
    ),
    OracleCase(
        "hinton_temperature",
        distributions("logits", "logits"),
        {"target_form": "logits", "temperature": 4.0},
        items=lambda o, t: 16 * torch_kl(Categorical(logits=t / 4), Categorical(logits=o / 4)),
    ),
    *(
        OracleCase(f"objects_{name}_{direction}", draw, {"direction": direction}, items=torch_kl_items(direction))
        for name, draw in OBJECTS.items()
        for direction in ("forward", "reverse")
    ),
    OracleCase("objects_normal_by_hand", OBJECTS["normal"], items=normal_kl_by_hand),
]
