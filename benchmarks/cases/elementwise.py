"""What the families of single elements and samples have in common: their batches, and the rows of a loss at every
size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.comparison.case import Batch, Case, Peer, itself, of_numbers, with_weight
from benchmarks.harness.equality import Value

SIZES = {"1e3": 10**3, "1e5": 10**5, "1e6": 10**6, "1e7": 10**7}
WEIGHTED_REACH = {"1e3": 0.7, "1e5": 1.0, "1e6": 1.5}


def of_torch(make: Callable[[], Value], each: float = 24) -> Peer:
    """Return what torch.nn has, as a peer that needs so many bytes for each number."""
    return Peer("torch.nn", make, of_numbers(each), formula=True)


def of_lines(function: Value, each: float = 40) -> Peer:
    """Return a few lines of plain torch as a peer."""
    return Peer("lines", partial(itself, function), of_numbers(each), formula=True)


def probabilities(size: int, count: int, device: str = "cpu") -> Batch:
    """Return logits and soft targets."""
    logits, target = torch.randn(2, size, count, generator=seeded())
    return Batch((leaf(logits, device),), (target.softmax(1).to(device),))


def weighted(batch: Callable[..., Batch], *shape: int | str) -> Batch:
    """Return a batch with a weight for each item, between 1/2 and 3/2, as its last constant."""
    unweighted = batch(*shape)
    weight = torch.rand(len(unweighted.leaves[0]), generator=seeded()) + 0.5
    return Batch(unweighted.leaves, (*unweighted.constants, weight.to(unweighted.leaves[0].device)))


def rows(
    name: str,
    loss: str,
    batch: Callable[..., Batch],
    peers: tuple[Peer, Peer],
    reach: Mapping[str, float],
    weighted_reach: Mapping[str, float] = WEIGHTED_REACH,
    **parameters: Any,
) -> Iterator[Case]:
    """Yield the cases of a loss of single elements: every size, without and with weights.

    Args:
        name: of the rows.
        loss: ours.
        batch: makes the batch from a number of elements and the device.
        peers: without and with weights.
        reach: without weights, by size. At the largest size nothing may need more memory than torch does.
        weighted_reach: likewise with weights.
        parameters: of our loss.
    """
    for peer, form, made, reached in (
        (peers[0], name, {"batch": batch}, reach),
        (peers[1], f"{name}-weighted", {"batch": partial(weighted, batch), "call": with_weight}, weighted_reach),
    ):
        for text, size in SIZES.items():
            lighter = 1.0 if text == "1e7" else None
            yield Case(
                f"{form}-{text}",
                (size,),
                loss,
                peer=peer,
                faster=reached.get(text),
                lighter=lighter,
                parameters=parameters,
                **made,
            )


def seeded() -> torch.Generator:
    """Return the source of random numbers that every batch begins with."""
    return torch.Generator().manual_seed(0)


def leaf(numbers: Tensor, device: str) -> Tensor:
    """Return numbers as a tensor whose gradient is wanted."""
    return numbers.to(device).requires_grad_()
