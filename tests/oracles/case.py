"""What every oracle is made of: a batch, a configuration with its independent answer, and drawers in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

Answer = Callable[..., Any]


class OracleBatch(NamedTuple):
    """What a loss is called with; the tensors that require grad are those whose gradient is compared.

    ``leaves`` are those tensors where the batch hides them, as two Distribution objects do.
    """

    output: Any
    target: Any
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    leaves: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class OracleCase:
    """One configuration of a loss, batches for it, and the independent answer.

    Args:
        id: name of the test.
        draw: makes a batch in float64.
        parameters: of the loss, without its reduction.
        items: expected unreduced value, called like the loss: ``items(output, target, **options)``.
        denominators: what each item adds to the denominator of the mean, from the items; by default 1.
        value: expected mean, called like the loss; by default the mean of ``items``.
        differentiable: whether autograd through the answer is the expected gradient; else central differences are.
        tangent: the answer normalises its distributions, so only the gradient along the simplex can be compared.
        paced: the gradient treats a part of the formula as constant, so that it is no derivative of the value.
    """

    id: str
    draw: Callable[[Generator], OracleBatch]
    parameters: dict[str, Any] = field(default_factory=dict)
    items: Answer | None = None
    denominators: Callable[[Tensor], Tensor] | None = None
    value: Answer | None = None
    differentiable: bool = True
    tangent: bool = False
    paced: bool = False

    def mean(self, batch: OracleBatch) -> Tensor:
        """Return the expected mean."""
        if self.value is not None:
            return torch.as_tensor(self.value(batch.output, batch.target, **batch.options), dtype=torch.float64)
        items = self.unreduced(batch)
        denominators = torch.ones_like(items) if self.denominators is None else self.denominators(items)
        return items.sum() / denominators.sum() if denominators.sum() else items.sum() * 0

    def unreduced(self, batch: OracleBatch) -> Tensor:
        """Return the expected items."""
        assert self.items is not None
        return torch.as_tensor(self.items(batch.output, batch.target, **batch.options), dtype=torch.float64)


def drawn(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def normal(random: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()


def uniform(random: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=random, dtype=torch.float64)


def coin(random: Generator, *shape: int) -> Tensor:
    return uniform(random, *shape) > 0.5


def probabilities(random: Generator, *shape: int, dim: int = -1) -> Tensor:
    return normal(random, *shape).detach().softmax(dim)


def positive(random: Generator, *shape: int) -> Tensor:
    return (uniform(random, *shape) + 0.5).requires_grad_()


def numpied(answer: Answer) -> Answer:
    """Return an answer in numpy as one that takes torch tensors."""

    def call(output: Any, target: Any, **options: Any) -> Any:
        return answer(*(part.detach().numpy() for part in (output, target)), **options)

    return call


def active(items: Tensor) -> Tensor:
    return (items > 0).double()


def unreduced(function: Callable[..., Tensor], **options: Any) -> Answer:
    return lambda prediction, target: function(prediction, target, reduction="none", **options)
