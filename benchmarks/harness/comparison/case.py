"""What a case is: a loss of ours on batches of one shape, its peer, and what it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

import losses
from benchmarks.harness.equality import Value

QUICK = 16  # how many times smaller the batches of --quick are

Side = Literal["ours", "peer"]
Estimate = Callable[[int, int], float]


class Batch(NamedTuple):
    """What a loss is called with: tensors whose gradient is wanted, and labels if it takes any."""

    leaves: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]

    def double(self) -> Batch:
        """Return the same batch in float64."""
        return Batch(tuple(leaf.detach().double().requires_grad_() for leaf in self.leaves), self.constants)

    def compared(self) -> tuple[Tensor, Tensor]:
        """Return the two sets of embeddings of which every pair is compared."""
        leaves = [leaf.detach() for leaf in self.leaves]
        return leaves[0], leaves[-1]


class Views(Batch):
    """Two views of each sample, every embedding compared with all others of both."""

    def compared(self) -> tuple[Tensor, Tensor]:
        everything = torch.cat([leaf.detach() for leaf in self.leaves])
        return everything, everything


@dataclass(frozen=True)
class Peer:
    """What we are compared with.

    Args:
        name: for the table.
        make: returns the function to differentiate.
        bytes: what it takes of memory for a size and a number per class, roughly: what would take too much is not run.
        shrink: how many times smaller its batch is than ours.
    """

    name: str
    make: Callable[[], Value]
    bytes: Estimate
    shrink: int = 1


@dataclass(frozen=True)
class Case:
    """One row: a loss of ours on batches of one shape, its peer, and what it must reach.

    Everything in it is a function of a module or a ``partial`` of one, so that a fresh process can be handed it.

    Args:
        name: on the command line and in the table.
        size: embeddings in the batch, of which ``per_class`` are of one class each.
        loss, parameters: ours.
        batch: makes the batch from size, number per class and device.
        pack: puts the leaves together where ours takes them as one, as ``losses.Pairs``.
        peer: what is timed in turns with it.
        definition: what value and gradient are checked against, in float64, where the peer computes something else.
        defined_at: size of the batch of that check.
        hinge: counts what lies so near to a hinge that rounding decides about it, where mean or gradient jump there.
        products: how many matrix products of N x N x D the loss cannot do without.
        faster: peer / ours is at least this.
        slower: ours / peer is at most this.
        lighter: memory of ours / peer is at most this.
        megabytes: memory of ours is at most this.
    """

    name: str
    size: int
    per_class: int
    loss: str
    batch: Callable[[int, int, str], Batch]
    pack: Callable[..., object] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    peer: Peer | None = None
    definition: Peer | None = None
    defined_at: int = 0
    hinge: Callable[..., tuple[int, int, int]] | None = None
    products: int = 3
    faster: float | None = None
    slower: float | None = None
    lighter: float | None = None
    megabytes: float | None = None

    def ours(self) -> Value:
        """Return our loss as a function of the leaves of a batch and its labels."""
        loss, pack = losses.create(self.loss, **self.parameters), self.pack
        return loss if pack is None else lambda *leaves: loss(pack(*leaves))

    def value(self, side: Side) -> Value:
        """Return what is differentiated on one side."""
        if side == "ours":
            return self.ours()
        assert self.peer is not None, f"{self.name} has no peer"
        return self.peer.make()

    def shape(self, size: int | None = None, *, quick: bool = False) -> tuple[int, int]:
        """Return size and number per class, of the full batch or one of another size; at least four classes stay."""
        size = (size or self.size) // (QUICK if quick else 1)
        return size, min(self.per_class, size // 4)


def of_triplets(each: float) -> Estimate:
    """Return the estimate of a peer that lists all triplets, found in a cube of single bytes."""
    return partial(bytes_of_triplets, each)


def of_matrices(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each pair."""
    return partial(bytes_of_a_power, each, 2)


def of_cubes(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each element of N x N x N."""
    return partial(bytes_of_a_power, each, 3)


def bytes_of_triplets(each: float, size: int, per_class: int) -> float:
    triplets = size * (per_class - 1) * (size - per_class)
    return each * triplets + (size**3 if size**3 < 2**31 else 0)


def bytes_of_a_power(each: float, power: int, size: int, per_class: int) -> float:
    return each * size**power
