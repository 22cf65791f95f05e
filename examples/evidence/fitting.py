"""Training of networks that no configuration describes: on the outputs that one question needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from batches import shuffled
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from tasks.task import Samples
from torch import Tensor, nn

from losses import checks


def fitted(
    network: nn.Module,
    cost: Callable[[Tensor, Tensor], Tensor],
    samples: Samples,
    seed: int,
    steps: int,
    *,
    batch: int = 64,
) -> nn.Module:
    """Return a network trained by Adam on what ``cost(output, target)`` says."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    batches = shuffled(*samples, batch)
    with checks("never"):  # logits of a new network may all lie in [0, 1], which a check takes for probabilities
        for step in range(steps):
            (inputs,), target = batches(seed, step)
            optimiser.zero_grad()
            cost(network.train()(inputs), target).backward()
            optimiser.step()
    return network.eval()


def diabetes(seed: int) -> tuple[Samples, Samples]:
    """Return patients to train on and to test on: 10 measurements, and how far diabetes progressed."""
    return parted(*load_diabetes(return_X_y=True), seed)


def parted(measured: numpy.ndarray, target: numpy.ndarray, seed: int) -> tuple[Samples, Samples]:
    """Return samples to train on and to test on, their inputs standardised by those to train on."""
    seen, unseen = train_test_split(range(len(target)), test_size=0.4, random_state=seed)
    inputs = (measured - measured[seen].mean(0)) / measured[seen].std(0)
    both = torch.from_numpy(inputs).float(), torch.from_numpy(target).float()
    return Samples(*(each[seen] for each in both)), Samples(*(each[unseen] for each in both))
