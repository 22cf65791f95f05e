"""Entropy: a loop over outcomes, scipy, torch.distributions, and mpmath in fifty digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import scipy.special
import scipy.stats
import torch
from torch import Generator, Tensor
from torch.distributions import Categorical

from tests.oracles.case import Answer, OracleBatch, OracleCase, normal, probabilities
from tests.oracles.divergence.distributions import FORMS, as_probs


def distribution(form: str, *shape: int) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of distributions in a form, without a target."""

    def draw(random: Generator) -> OracleBatch:
        probs = probabilities(random, *(shape or (4, 5)))
        values = {"logits": probs.log() + 0.5, "log_probs": probs.log(), "probs": probs}[form]
        return OracleBatch(values.requires_grad_(), None)

    return draw


def entropy_loop(form: str = "logits") -> Answer:
    """Shannon 1948, section 6: -sum p log p over the outcomes that are possible."""

    def items(output: Tensor, target: None) -> Tensor:
        probs = as_probs(output, form)
        rows = probs.reshape(-1, probs.shape[-1])
        return torch.stack([-sum(p * p.log() for p in row if p > 0) for row in rows]).reshape(probs.shape[:-1])

    return items


def scipy_entropy(output: Tensor, target: None) -> Any:
    return scipy.stats.entropy(scipy.special.softmax(output.detach().numpy(), axis=-1), axis=-1)


def mpmath_entropy(output: Tensor, target: None) -> list[float]:
    """Return the entropy of softmax(logits) in fifty digits."""
    with mpmath.workdps(50):
        values = []
        for row in output.tolist():
            partition = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in row))
            values.append(float(-mpmath.fsum(mpmath.exp(x - partition) * (x - partition) for x in row)))
        return values


ENTROPY = [
    *(OracleCase(form, distribution(form), {"output_form": form}, items=entropy_loop(form)) for form in FORMS),
    OracleCase("leading_dimensions", distribution("logits", 2, 3, 4), items=entropy_loop()),
    OracleCase("one_distribution", distribution("logits", 5), items=entropy_loop()),
    OracleCase("scipy", distribution("logits"), items=scipy_entropy, differentiable=False),
    OracleCase(
        "torch_categorical", distribution("logits"), items=lambda output, _: Categorical(logits=output).entropy()
    ),
    OracleCase(
        "torch_categorical_probs",
        distribution("probs"),
        {"output_form": "probs"},
        items=lambda output, _: Categorical(probs=output).entropy(),
        tangent=True,
    ),
    OracleCase(
        "mpmath",
        lambda random: OracleBatch((30 * normal(random, 4, 5)).detach().requires_grad_(), None),
        items=mpmath_entropy,
        differentiable=False,
    ),
]
