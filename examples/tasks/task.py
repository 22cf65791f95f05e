"""What every task offers to the training loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import numpy
import torch
from batches import Batches, shuffled
from pydantic import model_validator
from settings import Count, Settings
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from losses import ConfigError
from losses.core.errors import Problem
from losses.core.inputs import Kind
from losses.core.parameters import InnerProbability

Part = Literal["training", "validation"]
Metrics = Mapping[str, float]
Better = Mapping[str, Literal["lower", "higher"]]


class Task(Settings):
    """Data and what is measured on it; the fields are what a run may choose about it."""

    question: ClassVar[str]
    """What the metrics answer."""
    feeds: ClassVar[tuple[Kind, ...]]
    """The kinds of input that the data can be brought into; the first that a loss takes is used."""
    better: ClassVar[Better]
    """The metrics it reports, and which way each is better."""
    picture: ClassVar[str]
    """The name of the file that :meth:`draw` makes."""

    name: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""

    @property
    def outputs(self) -> int:
        """How many numbers a network ends in: the number of classes, or 1."""
        return 1

    @abstractmethod
    def batches(self, part: Part, kind: Kind, size: int) -> Batches:
        """Return batches of one part of the data, brought into a kind of input."""

    def misfit(self, size: int) -> str | None:
        """Return what is wrong with a batch size, if anything."""
        return None

    @abstractmethod
    def metrics(self, network: nn.Module) -> Metrics:
        """Return how well a network does on the data kept for testing."""

    def references(self) -> dict[str, Metrics]:
        """Return the metrics of methods that learn nothing, by their names."""
        return {}

    @abstractmethod
    def draw(self, network: nn.Module, path: Path) -> None:
        """Draw what the network does on the data kept for testing."""


class Samples(NamedTuple):
    """Samples ``(N, ...)`` and what a network should make of them ``(N, ...)``."""

    inputs: Tensor
    target: Tensor


class SplitTask(Task):
    """A task whose samples are shared out at random: some to train on, some to validate on, the rest to test on."""

    validation: InnerProbability = 0.2
    testing: InnerProbability = 0.2
    split_seed: Count = 0

    @model_validator(mode="after")
    def some_is_trained_on(self) -> Self:
        if self.validation + self.testing >= 1:
            raise ConfigError(
                Problem(
                    ("validation",),
                    f"got {self.validation} beside testing={self.testing}, expected less than 1 together",
                )
            )
        return self

    @cached_property
    @abstractmethod
    def parts(self) -> dict[str, Samples]:
        """The samples of the parts "training", "validation" and "testing"."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parts["training"].inputs.shape[1:])

    def batches(self, part: Part, kind: Kind, size: int) -> Batches:
        return shuffled(*self.parts[part], size)

    def parted(self, count: int, classes: numpy.ndarray | None = None) -> dict[str, numpy.ndarray]:
        """Return the indices of every part, each with the same fraction of every class."""
        rest, testing = train_test_split(
            numpy.arange(count), test_size=self.testing, random_state=self.split_seed, stratify=classes
        )
        training, validation = train_test_split(
            rest,
            test_size=self.validation / (1 - self.testing),
            random_state=self.split_seed,
            stratify=None if classes is None else classes[rest],
        )
        return {"training": training, "validation": validation, "testing": testing}


@torch.no_grad()
def answers(network: nn.Module, samples: Tensor) -> Tensor:
    """Return what a network makes of samples when it is used rather than trained."""
    return network.eval()(samples)
