"""pytorch-metric-learning: all that this repository takes from it, for examples, benchmarks, pages and tests.

All of it was tried with version 2.9.0, and numbers on pages name the version that they were measured against. Version 3
is a break without aliases: what is different about it is written here by its `migration guide
<https://kevinmusgrave.github.io/pytorch-metric-learning/migration-2-to-3/>`_ and release notes, but has not been tried,
so that ``pyproject.toml`` asks for a version below 3 until it is. Which version is there is told by what it has, never
by its number.

Whoever takes a loss from here passes each parameter whose default is another one in version 3: the margin of
``TripletMarginLoss``, and whether ``DotProductSimilarity`` normalises.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy
import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor

try:
    from pytorch_metric_learning import trainers
    from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
except ImportError:  # version 3
    from pytorch_metric_learning.distributed import DistributedLossWrapper

    trainers = None  # where the loop is one's own

VERSION = version("pytorch-metric-learning")  # its own __version__ is gone in 3
NAME = f"pytorch-metric-learning {VERSION}"


def grouped_batches(
    labels: Tensor,
    per_class: int,
    size: int,
    count: int,
    seed: Sequence[int],
    *,
    sampler: Callable[..., Any] = MPerClassSampler,
) -> Tensor:
    """Return batches of indices ``(count, size)``, in each ``per_class`` of every class that it holds, one class after
    another.

    Args:
        labels: of all samples ``(N,)``.
        per_class: how many samples of a class a batch holds.
        size: of a batch, a multiple of ``per_class``.
        count: how many batches.
        seed: what alone decides about the batches; global random numbers are left as they were.
        sampler: ``MPerClassSampler`` of version 2, which yields indices, or of 3, which yields batches of them.
    """
    accepted = inspect.signature(sampler).parameters
    # of what 3 draws its random numbers is not said: a generator, if it takes one, or else a global source
    options = {"generator": torch.Generator().manual_seed(mixed(seed))} if "generator" in accepted else {}
    with drawing_from(seed):
        if "num_batches" in accepted:
            batches = sampler(labels, per_class, batch_size=size, num_batches=count, **options)
        else:
            batches = sampler(labels, per_class, batch_size=size, length_before_new_iter=count * size, **options)
        drawn = list(batches)
    return torch.as_tensor(drawn).reshape(count, size)


@contextlib.contextmanager
def drawing_from(seed: Sequence[int]) -> Iterator[None]:
    """Let all global random numbers follow from ``seed``, and go on as if nothing had been drawn afterwards."""
    python, numbers = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(mixed(seed))
        numpy.random.seed(list(seed))
        torch.manual_seed(mixed(seed))
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(numbers)


def mixed(seed: Sequence[int]) -> int:
    """Return one number for several."""
    return int(numpy.random.SeedSequence(list(seed)).generate_state(1)[0])


def accuracy_calculator(distance: Any, metrics: Sequence[str]) -> Any:
    """Return an ``AccuracyCalculator`` that searches all neighbours in a distance, on the CPU and without faiss."""
    try:
        from pytorch_metric_learning.evaluation import AccuracyCalculator, CustomKNN
    except ImportError:  # version 2
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN
    options = {"knn_func": CustomKNN(distance), "device": torch.device("cpu"), "kmeans_func": lambda *_: None}
    accepted = inspect.signature(AccuracyCalculator).parameters
    return AccuracyCalculator(
        include=tuple(metrics),
        k="max_bin_count",
        **{name: value for name, value in options.items() if name in accepted},
    )


__all__ = [
    "NAME",
    "VERSION",
    "DistributedLossWrapper",
    "MPerClassSampler",
    "accuracy_calculator",
    "distances",
    "drawing_from",
    "grouped_batches",
    "losses",
    "miners",
    "reducers",
    "regularizers",
    "trainers",
]
