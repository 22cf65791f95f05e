"""The course of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from losses.diagnostics import GeneralizationGap
from losses.diagnostics.generalization import Verdict


class Reading(NamedTuple):
    """What a loss tells beside its value, on data that are trained on and on data that are not."""

    training: float
    validation: float


class Evaluation(NamedTuple):
    """The loss on data that are trained on and on data that are not, both measured alike after ``step`` steps, and its
    readings."""

    step: int
    training: float
    validation: float
    readings: Mapping[str, Reading]

    @property
    def gap(self) -> float:
        """The generalisation gap, in the unit of the loss: how much better the network does where it has learnt the
        answers."""
        return self.validation - self.training

    @property
    def ratio(self) -> float | None:
        """The loss on validation data over that on training data, a number that has no unit; none where a loss is not
        above 0."""
        return self.validation / self.training if min(self.training, self.validation) > 0 else None


@dataclass
class History:
    """The loss of every step, the evaluations between steps, and how long all of it took."""

    training: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.training)

    @property
    def verdict(self) -> Verdict:
        """Whether the network under-fits, fits or over-fits, and from which step on."""
        gap = GeneralizationGap()
        for evaluation in self.evaluations:
            gap.add(evaluation.step, evaluation.training, evaluation.validation)
        return gap.verdict()

    def state_dict(self) -> dict[str, Any]:
        evaluations = [
            [*losses, {name: list(reading) for name, reading in readings.items()}]
            for *losses, readings in self.evaluations
        ]
        return {"training": list(self.training), "evaluations": evaluations, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.training = list(state["training"])
        self.evaluations = [
            Evaluation(*losses, {name: Reading(*reading) for name, reading in readings.items()})
            for *losses, readings in state["evaluations"]
        ]
        self.seconds = state["seconds"]
