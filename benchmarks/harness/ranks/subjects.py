"""Losses whose gradients over several processes are compared, and the batch of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import losses
from benchmarks.peers.pml_parameters import DIMENSION, PARAMETERS
from losses.core.inputs import DISTRIBUTION_OBJECTS, EMBEDDINGS, MATCHES
from losses.core.outputs import map_samples, map_tensors
from losses.core.registry import find

ROWS = 24
OF_OTHERS = "pml."
VARIANTS: Mapping[tuple[str, str], tuple[dict[str, Any], ...]] = {
    ("contrastive", "EMBEDDINGS"): ({}, {"average": "active"}, {"average": "balanced", "power": 1}),
    ("info_nce", "MATCHES"): ({}, {"negatives": "both"}),
    ("multi_similarity", "EMBEDDINGS"): ({}, {"mining_epsilon": 0.1}),
    ("triplet", "EMBEDDINGS"): (
        *({}, {"average": "all"}, {"margin": "soft"}, {"mining": "hard"}, {"mining": "semi_hard"}, {"swap": True}),
    ),
}
"""Parameters of losses that are more than one loss, by name and kind of input."""


class Subject(NamedTuple):
    """A loss with one kind of input.

    Args:
        name: of the loss.
        parameters: of the loss.
        kind: of input, by its name.
    """

    name: str
    parameters: dict[str, Any]
    kind: str

    def __str__(self) -> str:
        return ", ".join([self.name, *(f"{name}={value}" for name, value in self.parameters.items())])

    @property
    def compares(self) -> bool:
        """Whether samples of a batch are compared with one another."""
        return self.kind in (EMBEDDINGS.name, MATCHES.name)

    def loss(self, reduction: str = "mean") -> losses.Loss:
        """Return the loss, what it learns in float64 and drawn from a fixed seed."""
        torch.manual_seed(7)
        given = PARAMETERS.get(self.name.removeprefix(OF_OTHERS), {}) | self.parameters
        return find(self.name).instance(**given, reduction=reduction).double()

    def batch(self) -> tuple[Any, Any]:
        """Return output and target of the whole batch."""
        generator = torch.Generator().manual_seed(0)
        if self.name.startswith(OF_OTHERS):
            draw = partial(torch.randn, ROWS, DIMENSION, generator=generator, dtype=torch.float64)
            if self.kind == MATCHES.name:
                return losses.Pairs(draw(), draw()), None
            labels = torch.arange(ROWS)
            return draw(), labels // 6 if self.name == "pml.SmoothAPLoss" else labels % 4  # it wants whole classes
        kind = next(kind for kind in self.loss().inputs if kind.name == self.kind)
        output, target = kind.draw(self.loss(), ROWS, generator)
        return (output.loc, target.loc) if self.kind == DISTRIBUTION_OBJECTS.name else (output, target)

    def part(self, rows: slice) -> tuple[Any, Any]:
        """Return some rows of the batch, of which every floating tensor of the output is a leaf with gradient."""
        output, target = self.batch()
        own = map_samples(output, lambda tensor: leaf(tensor[rows]), shared=leaf)
        return own, map_tensors(target, lambda tensor: tensor[rows].detach())

    def called(self, value: nn.Module, output: Any, target: Any, **given: Any) -> Tensor:
        """Call a loss, or what is built around it, with a batch; one that remembers is called twice."""
        if self.kind == DISTRIBUTION_OBJECTS.name:
            output, target = (Normal(mean, torch.ones_like(mean)) for mean in (output, target))
        if self.name == "memory_bank":
            value(output.detach().flip(1), target, **given)
        result: Tensor = value(output, target, **given)
        return result


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def subjects() -> Iterator[Subject]:
    """Yield every registered loss with each of its kinds of input, and every loss of pytorch-metric-learning."""
    for name in losses.available():
        for kind in find(name).instance().inputs:
            for parameters in VARIANTS.get((name, kind.name), ({},)):
                yield Subject(name, parameters, kind.name)
    for name in losses.available("pml"):
        yield Subject(name, {}, MATCHES.name if find(name).inputs == (MATCHES,) else EMBEDDINGS.name)
