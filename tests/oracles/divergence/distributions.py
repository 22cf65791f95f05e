"""Distributions in every form, and relative entropy by a loop over outcomes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from tests.oracles.case import OracleBatch, normal, probabilities

FORMS = ("logits", "log_probs", "probs")


def distributions(output: str, target: str, *shape: int) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of two distributions, each in its form."""

    def draw(random: Generator) -> OracleBatch:
        sides = []
        for form in (output, target):
            probs = probabilities(random, *(shape or (4, 5)))
            sides.append({"logits": probs.log() + 0.5, "log_probs": probs.log(), "probs": probs}[form].requires_grad_())
        return OracleBatch(*sides)

    return draw


def against_zeros(random: Generator) -> OracleBatch:
    """Draw logits against probabilities of which one in each row, and all but one in the first, is 0."""
    probs = probabilities(random, 4, 5)
    probs[:, 1] = 0
    probs[0, 2:] = 0
    return OracleBatch(normal(random, 4, 5), probs / probs.sum(-1, keepdim=True))


def as_probs(values: Tensor, form: str, temperature: float = 1.0) -> Tensor:
    probs = {
        "logits": lambda: values.exp() / values.exp().sum(-1, keepdim=True),
        "log_probs": values.exp,
        "probs": lambda: values,
    }[form]()
    if temperature == 1:
        return probs
    powers = probs ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def relative_entropy_loop(first: Tensor, second: Tensor) -> Tensor:
    """Return sum p log(p / q) over the outcomes that p has mass on."""
    values = []
    for p, q in zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, first.shape[-1]), strict=True):
        values.append(sum((a * (a / b).log() for a, b in zip(p, q, strict=True) if a > 0), start=(p + q).sum() * 0))
    return torch.stack(values).reshape(first.shape[:-1])
