"""A run of a few steps on drawn samples, and what one process makes of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset

import losses

SIZE, WIDTH, CLASSES = 32, 16, 4


class SamplesOfClasses(Dataset[tuple[Tensor, Tensor]]):
    """Samples of a few classes, the same in every process."""

    def __init__(self, count: int) -> None:
        self.samples = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(count) // 2 % CLASSES

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.samples[index], self.labels[index]


def encoder() -> nn.Module:
    """Return a network that begins the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 8))


def difference_from_one_process(network: nn.Module, steps: int) -> float:
    """Return the largest difference of a parameter from the network that one process trains on whole batches."""
    whole, loss = encoder(), losses.create("supervised_contrastive").eval()  # it is alone, and need not be told so
    optimiser = SGD(whole.parameters(), lr=0.1)
    for samples, labels in DataLoader(SamplesOfClasses(steps * SIZE), batch_size=SIZE):
        optimiser.zero_grad()
        loss(whole(samples), labels).backward()
        optimiser.step()
    return max(
        float((one - other).detach().abs().max())
        for one, other in zip(network.parameters(), whole.parameters(), strict=True)
    )
