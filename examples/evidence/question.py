"""A question about losses, the answers that are tried, and what is measured of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from run_config import Run, planned
from torch import nn
from train import Learner, trained_on

import losses


class Answer(NamedTuple):
    """A loss that is tried, or what learns nothing and has to be beaten."""

    loss: Mapping[str, Any]
    """Its configuration; empty, where nothing is learnt."""
    peer: str = ""
    """The answer that it has to do better than; none, if it is here for others to be compared with."""
    reading: str = ""
    """How its output is read, where there is a choice."""


Measure = Callable[[Answer, int, int], Mapping[str, float]]
"""From an answer, a seed and a number of steps to its metrics."""
Found = Mapping[str, Any]
"""What ``examples/choosing.py`` keeps of a question and of what was measured."""


class Picture(NamedTuple):
    """What is drawn of a question once it is answered."""

    shows: str
    draw: Callable[[Found, Path], None]


class Question(NamedTuple):
    """What is asked, and how it is answered."""

    name: str
    """Of its files in ``docs/choosing``, and of the file it is asked in."""
    condition: str
    """A word of ``losses.core.fits.CONDITIONS``."""
    task: str
    """A word of ``losses.core.fits.TASKS``: of losses that are made for it the answers decide what they may claim."""
    asks: str
    data: str
    """What is learnt from, and how."""
    better: Mapping[str, Literal["lower", "higher", "90 %"]]
    """The metrics, and what is better; the first decides."""
    answers: Mapping[str, Answer]
    measure: Measure
    steps: int
    seeds: int = 5
    picture: Picture | None = None
    quick: Mapping[str, Any] = MappingProxyType({})
    """Fields that are others where the question is asked on less, because even a few steps take long."""


def answer(name: str, *, peer: str = "", reading: str = "", **parameters: Any) -> Answer:
    """Return an answer, whose parameters are those of its loss.

    >>> answer("huber", peer="mse", delta=2).loss
    {'name': 'huber', 'delta': 2}
    """
    losses.create(name, **parameters)  # a wrong one fails before hours of training
    return Answer({"name": name, **parameters}, peer, reading)


def nothing_learnt(reading: str) -> Answer:
    """Return an answer without a loss, which every advice has to do better than."""
    return Answer({}, "", reading)


def run_of(config: str, loss: Mapping[str, Any], seed: int, *changes: str) -> Run:
    """Return the run of a file of ``configs/`` with another loss, as ``examples/train.py`` would make it; the seed is
    that of the network and of which samples are trained on, where the task parts them."""
    (run,) = planned(config, [json.dumps(loss)], [f"seed={seed}", *changes]).values()
    return run


def trained(run: Run, steps: int) -> nn.Module:
    """Return the network that a run trains in so many steps."""
    torch.manual_seed(run.seed)
    learner = Learner(run)
    optimiser = run.optimiser.build(learner.parameters())
    batches = run.task.batches("training", run.kind, run.batch_size)
    for step in range(steps):
        trained_on(batches(run.seed, step), learner, optimiser)
    return learner.network.eval()
