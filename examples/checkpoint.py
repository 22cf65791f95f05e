"""Saving a run so that it can go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from run_config import Run

from losses import ConfigError
from losses.core.errors import Problem


class Stateful(Protocol):
    """Anything with a state that can be taken out and put back: modules, optimisers, histories."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object: ...


def save(path: Path, run: Run, parts: Mapping[str, Stateful]) -> None:
    """Write the state of all parts and of torch's random numbers, in data that ``weights_only`` loading accepts."""
    state = {name: part.state_dict() for name, part in parts.items()}
    unfinished = path.with_suffix(".unfinished")
    torch.save({"run": run.values(), "random": torch.get_rng_state(), **state}, unfinished)
    unfinished.replace(path)  # at once: a run that is stopped while it saves keeps its last checkpoint


def restore(path: Path, run: Run, parts: Mapping[str, Stateful]) -> None:
    """Bring all parts, and torch's random numbers, back to where :func:`save` found them.

    Raises:
        ConfigError: the checkpoint is of a run that differs in more than the number of its steps.
    """
    saved = torch.load(path, weights_only=True)
    before, now = saved["run"], run.values()
    different = [key for key in now if key != "steps" and before.get(key) != now[key]]
    if different:
        raise ConfigError(
            *(Problem((key,), f"got {now[key]!r}, {path} was trained with {before.get(key)!r}") for key in different)
        )
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    torch.set_rng_state(saved["random"])
