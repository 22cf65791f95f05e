"""Over-fitting, seen and stopped: a loss on data that are trained on beside the same loss on data that are not."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import nn

from losses.core.errors import ConfigError, InputError, quoted

Better = Literal["lower", "higher"]


class Point(NamedTuple):
    """What was measured at one step: the same loss on both parts of the data, in the same mode of the network."""

    step: int
    training: float
    validation: float
    metric: float | None = None

    @property
    def gap(self) -> float:
        """How much better the network does where it has learnt the answers, in the unit of the loss."""
        return self.validation - self.training


class Verdict(NamedTuple):
    """What the course of both losses says."""

    fit: Literal["unknown", "under-fitting", "fitting", "over-fitting"]
    since: int | None
    """The step from which on it over-fits."""
    reason: str

    def __str__(self) -> str:
        return self.fit + (f" from step {self.since}" if self.since is not None else "") + f": {self.reason}"


class GeneralizationGap:
    """Follow a loss on training and on validation data, in its own unit, and say whether the network over-fits.

    Both have to be measured alike: the same loss with the same parameters (in evaluation mode, so that a schedule does
    not move it), the network in evaluation mode, on as many samples. The verdict is that of the last ``patience``
    points:

    - ``over-fitting`` from the step of the lowest validation loss, where it was not reached again in as many points,
      while the training loss went on falling;
    - ``under-fitting`` where the validation loss still reaches new lows: more steps still help;
    - ``fitting`` where it does not, and neither loss goes anywhere.

    A network that is too small comes to rest as one that fits does; only a larger one tells.

    Args:
        patience: points without a new low of the validation loss after which it counts as over.
        tolerance: change of a loss, as a fraction of the lowest validation loss, below which it is none.

    >>> gap = GeneralizationGap(patience=2)
    >>> for step, (training, validation) in enumerate([(2.0, 2.1), (1.0, 1.5), (0.5, 1.7), (0.2, 2.0)]):
    ...     gap.add(step, training, validation)
    >>> print(gap.verdict())
    over-fitting from step 1: the validation loss was lowest there, 1.5, and is 2; the training loss fell from 1 to 0.2
    >>> round(gap.gap, 2)
    1.8
    """

    def __init__(self, *, patience: int = 5, tolerance: float = 0.01) -> None:
        require_patience(patience)
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
            raise ConfigError(f"tolerance: got {quoted(tolerance)}, expected a finite number of at least 0")
        self.patience = patience
        self.tolerance = tolerance
        self.points: list[Point] = []

    def add(self, step: int, training: float, validation: float, metric: float | None = None) -> None:
        """Add what was measured after so many steps; ``metric`` is the task's own, on validation data.

        Raises:
            InputError: the step is not after the last one, or a loss is NaN.
        """
        try:
            step = operator.index(step)
        except TypeError:
            raise InputError(f"a step is a number of steps that were made, got {quoted(step)}") from None
        if self.points and step <= self.points[-1].step:
            raise InputError(f"step {step} comes after step {self.points[-1].step}; add the points in their order")
        values = {"training": float(training), "validation": float(validation)}
        for name, value in values.items():
            if math.isnan(value):
                raise InputError(f"the {name} loss of step {step} is NaN; a training that has diverged fits nothing")
        self.points.append(Point(step, **values, metric=None if metric is None else float(metric)))

    @property
    def gap(self) -> float:
        """The validation loss less the training loss at the last point, in the unit of the loss.

        Raises:
            InputError: there is no point.
        """
        return self._last().gap

    @property
    def best(self) -> Point:
        """The point with the lowest validation loss, the first of several.

        Raises:
            InputError: there is no point.
        """
        self._last()
        return min(self.points, key=lambda point: point.validation)

    def verdict(self) -> Verdict:
        """Return whether the network under-fits, fits or over-fits, and from which step on."""
        if len(self.points) <= self.patience:
            return Verdict("unknown", None, f"{len(self.points)} points, more than {self.patience} are needed")
        best, last = self.best, self._last()
        change = self.tolerance * abs(best.validation)
        before = min(point.validation for point in self.points[: -self.patience])
        if best.validation < before - change and last.validation <= best.validation + change:
            said = f"the validation loss still falls, from {before:.4g} to {best.validation:.4g}"
            return Verdict("under-fitting", None, f"{said} in the last {self.patience} points")
        stale = sum(point.step > best.step for point in self.points)
        fell = best.training - last.training
        if stale >= self.patience and last.validation > best.validation + change and fell > change:
            said = f"the validation loss was lowest there, {best.validation:.4g}, and is {last.validation:.4g}"
            fallen = f"the training loss fell from {best.training:.4g} to {last.training:.4g}"
            return Verdict("over-fitting", best.step, f"{said}; {fallen}")
        said = f"the validation loss is {last.validation:.4g}, its lowest {best.validation:.4g} at step {best.step}"
        return Verdict("fitting", None, f"{said}, the gap {last.gap:.4g}")

    def state_dict(self) -> dict[str, Any]:
        """Return the points, as data that a checkpoint keeps."""
        return {"points": [list(point) for point in self.points]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.points = [Point(*values) for values in state["points"]]

    def _last(self) -> Point:
        if not self.points:
            raise InputError("nothing was added yet; call add(step, training, validation)")
        return self.points[-1]


class EarlyStopping:
    """Keep the best state of a network, and say when nothing better has come for a while.

    Args:
        model: a network, whose best state is kept (a copy of it, in the memory where it is).
        patience: how many values in a row may be no better before it says stop.
        better: whether a lower value is better, as of a loss, or a higher one, as of an accuracy.
        least: by how much a value has to be better to count.

    >>> stopping = EarlyStopping(nn.Linear(1, 1), patience=2)
    >>> [stopping.update(step, value) for step, value in enumerate([0.9, 0.7, 0.8, 0.75])]
    [False, False, False, True]
    >>> stopping.best_step, stopping.best
    (1, 0.7)
    """

    def __init__(self, model: nn.Module, *, patience: int = 5, better: Better = "lower", least: float = 0.0) -> None:
        require_patience(patience)
        if better not in ("lower", "higher"):
            raise ConfigError(f"better: got {quoted(better)}, expected 'lower' or 'higher'")
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least < math.inf:
            raise ConfigError(f"least: got {quoted(least)}, expected a finite number of at least 0")
        self.model = model
        self.patience = patience
        self.better = better
        self.least = least
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self._state: dict[str, Any] | None = None

    def update(self, step: int, value: float) -> bool:
        """Return whether to stop, after a value that was measured at a step; a NaN is no better than anything."""
        value = float(value)
        if self._is_better(value):
            self.best, self.best_step, self.waited = value, int(step), 0
            self._state = copy.deepcopy(self.model.state_dict())
        else:
            self.waited += 1
        return self.is_over

    @property
    def is_over(self) -> bool:
        """Whether nothing better has come for a while."""
        return self.waited >= self.patience

    def restore(self) -> None:
        """Bring the network back to its best state.

        Raises:
            InputError: there was no value that is a number.
        """
        if self._state is None:
            raise InputError("there is no best state; call update(step, value) with a value that is no NaN first")
        self.model.load_state_dict(self._state)

    def state_dict(self) -> dict[str, Any]:
        """Return the best state and how long nothing better has come, as data that a checkpoint keeps."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited, "state": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]
        self._state = state["state"]

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best - self.least if self.better == "lower" else value > self.best + self.least


def require_patience(patience: object) -> None:
    """Raise unless a patience is a number of points."""
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ConfigError(f"patience: got {quoted(patience)}, expected an integer of at least 1")
