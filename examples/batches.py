"""Batches as functions of (seed, step) alone: resuming a run at any step draws exactly what it would have drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from losses.adapters.pytorch_metric_learning import grouped_batches

Target = Tensor | dict[str, Tensor] | None
"""What a loss compares an output with: a tensor, or several by their names."""


class Batch(NamedTuple):
    """What a network is called with, ``network(*inputs)``, and what a loss compares its output with."""

    inputs: tuple[Tensor, ...]
    target: Target


Batches = Callable[[int, int], Batch]
"""From a seed and a step to a batch."""


def shuffled(inputs: Tensor, target: Tensor, size: int) -> Batches:
    """Return batches that go through the data in a new order every epoch; an incomplete last batch is left out."""
    size = min(size, len(inputs))
    steps = len(inputs) // size

    @lru_cache(maxsize=1)
    def order(seed: int, epoch: int) -> Tensor:
        return torch.from_numpy(numpy.random.default_rng((seed, epoch)).permutation(len(inputs)))

    def draw(seed: int, step: int) -> Batch:
        chosen = order(seed, step // steps)[step % steps * size :][:size]
        return Batch((inputs[chosen],), target[chosen])

    return draw


def grouped(inputs: Tensor, labels: Tensor, size: int, per_class: int) -> Batches:
    """Return batches that hold ``per_class`` samples of each of ``size / per_class`` classes, class after class."""
    steps = max(len(labels) // size, 1)

    @lru_cache(maxsize=1)
    def epoch_of(seed: int, epoch: int) -> Tensor:
        return grouped_batches(labels, per_class, size, steps, (seed, epoch))

    def draw(seed: int, step: int) -> Batch:
        chosen = epoch_of(seed, step // steps)[step % steps]
        return Batch((inputs[chosen],), labels[chosen])

    return draw


def pairs(labelled: Batches, per_class: int) -> Batches:
    """Return the samples of grouped batches in pairs: every other one of two samples of one class, the rest of two
    classes."""

    def draw(seed: int, step: int) -> Batch:
        anchor, positive, negative = _halves(labelled(seed, step), per_class)
        same = torch.arange(len(anchor)) % 2 == 0
        return Batch((anchor, torch.where(same[:, None, None, None], positive, negative)), same)

    return draw


def triplets(labelled: Batches, per_class: int) -> Batches:
    """Return triplets of the samples of grouped batches: each with one of its own class and one of the next class."""
    return lambda seed, step: Batch(_halves(labelled(seed, step), per_class), None)


def _halves(batch: Batch, per_class: int) -> tuple[Tensor, Tensor, Tensor]:
    (samples,) = batch.inputs
    anchor, positive = samples[0::2], samples[1::2]
    return anchor, positive, positive.roll(per_class // 2, dims=0)
