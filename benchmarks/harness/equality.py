"""Whether two things are the same: value and gradient, before anything about them is timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Value = Callable[..., Tensor]
"""What is differentiated: called with the tensors of a batch."""


class UnequalError(Exception):
    """Two things that should be the same are not, so nothing about them may be timed."""


class Outcome(NamedTuple):
    """The value of a step and the gradients of everything it was taken of."""

    value: Tensor
    gradients: tuple[Tensor, ...]

    @property
    def gradient(self) -> Tensor:
        """All gradients in one column; made when it is asked for, so that a step is not timed with it."""
        return torch.cat([gradient.flatten() for gradient in self.gradients])


class Difference(NamedTuple):
    """How far an outcome is from the expected one, relative to the value and to the largest entry of the gradient."""

    value: float
    gradient: float


def step(value: Value, leaves: Sequence[Tensor], *constants: object) -> Callable[[], Outcome]:
    """Return a function that runs ``value`` forward and backward on tensors whose gradient is wanted."""
    seed: Tensor | None = None

    def forward_backward() -> Outcome:
        nonlocal seed
        for leaf in leaves:
            leaf.grad = None
        result = value(*leaves, *constants)
        if seed is None:
            seed = torch.ones_like(result)  # made once: it is no part of the work of a peer that returns a matrix
        result.backward(seed)
        gradients = tuple(leaf.grad for leaf in leaves if leaf.grad is not None)
        if len(gradients) < len(leaves):
            raise UnequalError(f"only {len(gradients)} of {len(leaves)} tensors have a gradient")
        return Outcome(result.detach(), gradients)

    return forward_backward


def difference(outcome: Outcome, expected: Outcome) -> Difference:
    """Return how far an outcome is from the expected one; NaN and infinity are as far as can be."""
    value, gradient = (
        float((one.double() - other.double()).abs().max() / other.double().abs().max())
        for one, other in ((outcome.value, expected.value), (outcome.gradient, expected.gradient))
    )
    return Difference(*(part if math.isfinite(part) else math.inf for part in (value, gradient)))


def relative(values: Sequence[float], expected: Sequence[float]) -> list[float]:
    """Return how far values are from the expected ones, relative to those; NaN and infinity are as far as can be."""
    found = (
        abs(value - other) / abs(other) if other else float(value != other)
        for value, other in zip(values, expected, strict=True)
    )
    return [far if math.isfinite(far) else math.inf for far in found]


def require_equal(name: str, outcome: Outcome, expected: Outcome, tolerance: Difference) -> Difference:
    """Return how far an outcome is from the expected one, or raise where that is more than the tolerance."""
    shapes, expected_shapes = (
        [tuple(part.shape) for part in (one.value, *one.gradients)] for one in (outcome, expected)
    )
    if shapes != expected_shapes:
        raise UnequalError(f"{name}: shapes {shapes} and {expected_shapes}")
    if not any(gradient.any() for gradient in expected.gradients):
        raise UnequalError(f"{name}: the expected gradient is 0, so that equality would say nothing")
    found = difference(outcome, expected)
    for part, allowed in tolerance._asdict().items():
        if not getattr(found, part) <= allowed:
            raise UnequalError(
                f"{name}: the {part} is {getattr(found, part):.1e} away, allowed is {allowed:.0e} (values "
                f"{outcome.value:.7g}, "
                f"{expected.value:.7g})"
            )
    return found
