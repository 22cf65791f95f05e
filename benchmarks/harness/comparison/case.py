"""What a case is: a loss of ours on batches of one shape, its peer, and what it must reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

import losses
from benchmarks.harness.equality import Value
from losses.core.outputs import map_floating

QUICK = 16  # how many times smaller the batches of --quick are
MOST_QUICK = 1 << 14  # numbers in them, at most; but one row at least

Side = Literal["ours", "peer"]
Shape = tuple[int, ...]
Estimate = Callable[..., float]


class Batch(NamedTuple):
    """What a loss is called with: tensors whose gradient is wanted, and all that comes after them, as targets."""

    leaves: tuple[Tensor, ...]
    constants: tuple[Any, ...]

    def double(self) -> Batch:
        """Return the same batch in float64; labels and indices stay what they are."""
        leaves = tuple(leaf.detach().double().requires_grad_() for leaf in self.leaves)
        return Batch(leaves, map_floating(self.constants, Tensor.double))

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
        bytes: what it takes of memory for a shape, roughly: what would take too much is not run.
        shrink: how many times smaller its batch is than ours.
        formula: whether it is plain torch, which ``torch.compile`` may be asked to make faster.
    """

    name: str
    make: Callable[[], Value]
    bytes: Estimate
    shrink: int = 1
    formula: bool = False


def same_rest(shape: Shape, size: int) -> Shape:
    """Return a shape with so many rows, or elements, and everything else as it is."""
    return (size, *shape[1:])


def at_least_four_classes(shape: Shape, size: int) -> Shape:
    """Return size and number per class of a smaller labelled batch, in which there still are four classes."""
    size = max(size, min(shape[0], 16))
    return size, min(shape[1], size // 4)


def itself(function: Value) -> Value:
    """Return a function: with ``partial``, what makes a peer that there is nothing to make of."""
    return function


def passed_on(loss: losses.Loss, *batch: Any) -> Tensor:
    """Call a loss with output and target."""
    return loss(*batch)


def with_weight(loss: losses.Loss, *batch: Any) -> Tensor:
    """Call a loss with output, target and, last, weights."""
    *output_and_target, weight = batch
    return loss(*output_and_target, weight=weight)


@dataclass(frozen=True)
class Case:
    """One row: a loss of ours on batches of one shape, its peer, and what it must reach.

    Everything in it is a function of a module or a ``partial`` of one, so that a fresh process can be handed it.

    Args:
        name: on the command line and in the table.
        shape: of the batch: elements; rows and columns; embeddings and how many are of one class each.
        loss, parameters: ours.
        batch: makes the batch from the numbers of the shape and the device.
        call: calls ours with the tensors of the batch, where it is not with output and target as they are.
        resized: returns the shape of a batch with another first number.
        peer: what is timed in turns with it.
        definition: what value and gradient are checked against, in float64, where the peer computes something else.
        defined_at: first number of the shape of that check.
        hinge: counts what lies so near to a hinge that rounding decides about it, where mean or gradient jump there.
        products: how many matrix products of N x N x D a loss of all pairs cannot do without; 0 for all others.
        faster: peer / ours is at least this.
        slower: ours / peer is at most this.
        lighter: memory of ours / peer is at most this.
        megabytes: memory of ours is at most this.
    """

    name: str
    shape: Shape
    loss: str
    batch: Callable[..., Batch]
    call: Callable[..., Tensor] = passed_on
    resized: Callable[[Shape, int], Shape] = same_rest
    parameters: dict[str, Any] = field(default_factory=dict)
    peer: Peer | None = None
    definition: Peer | None = None
    defined_at: int = 0
    hinge: Callable[..., tuple[int, int, int]] | None = None
    products: int = 0
    faster: float | None = None
    slower: float | None = None
    lighter: float | None = None
    megabytes: float | None = None

    def ours(self, device: str = "cpu") -> Value:
        """Return our loss as a function of the leaves of a batch and its constants."""
        loss = losses.create(self.loss, **self.parameters).to(device)
        return loss if self.call is passed_on else partial(self.call, loss)

    def value(self, side: Side, device: str = "cpu") -> Value:
        """Return what is differentiated on one side."""
        if side == "ours":
            return self.ours(device)
        assert self.peer is not None, f"{self.name} has no peer"
        return self.peer.make()

    def shaped(self, size: int | None = None, *, quick: bool = False) -> Shape:
        """Return the shape of the full batch, or of one of another size."""
        size = size or self.shape[0]
        if quick:
            size = max(1, min(size // QUICK, MOST_QUICK // math.prod(self.shape[1:])))
        return self.resized(self.shape, size)


def of_numbers(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each number of the shape."""
    return partial(bytes_of_numbers, each)


def of_triplets(each: float) -> Estimate:
    """Return the estimate of a peer that lists all triplets, found in a cube of single bytes."""
    return partial(bytes_of_triplets, each)


def of_squared_triplets(each: float) -> Estimate:
    """Return the estimate of a peer that compares all triplets with all triplets."""
    return partial(bytes_of_squared_triplets, each)


def of_matrices(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each pair."""
    return partial(bytes_of_a_power, each, 2)


def of_cubes(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each element of N x N x N."""
    return partial(bytes_of_a_power, each, 3)


def bytes_of_numbers(each: float, *shape: int) -> float:
    return each * math.prod(shape)


def bytes_of_triplets(each: float, size: int, per_class: int) -> float:
    triplets = size * (per_class - 1) * (size - per_class)
    return each * triplets + (size**3 if size**3 < 2**31 else 0)


def bytes_of_squared_triplets(each: float, size: int, per_class: int) -> float:
    return each * (size * (per_class - 1) * (size - per_class)) ** 2


def bytes_of_a_power(each: float, power: int, size: int, *rest: int) -> float:
    return each * size**power
