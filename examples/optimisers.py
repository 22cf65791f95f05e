"""Optimisers that a run chooses by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from settings import Settings
from torch.nn import Parameter
from torch.optim import Optimizer

from losses.core.parameters import NonNegative, Positive, Probability


class OptimiserSettings(Settings):
    """An optimiser as a run describes it."""

    name: str
    learning_rate: Positive
    weight_decay: NonNegative = 0.0

    @abstractmethod
    def build(self, parameters: Iterable[Parameter]) -> Optimizer:
        """Return an optimiser of the parameters."""


class Adam(OptimiserSettings):
    """Adam with decoupled weight decay (AdamW)."""

    name: Literal["adam"]

    def build(self, parameters: Iterable[Parameter]) -> Optimizer:
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


class SGD(OptimiserSettings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    momentum: Probability = 0.9

    def build(self, parameters: Iterable[Parameter]) -> Optimizer:
        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


OPTIMISERS: Mapping[str, type[OptimiserSettings]] = {"adam": Adam, "sgd": SGD}
