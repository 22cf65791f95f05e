"""The course of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Evaluation(NamedTuple):
    """The loss on data that are trained on and on data that are not, both measured alike after ``step`` steps."""

    step: int
    training: float
    validation: float

    @property
    def gap(self) -> float:
        """The generalisation gap: how much better the network does where it has learnt the answers."""
        return self.validation - self.training


@dataclass
class History:
    """The loss of every step, and the evaluations between steps."""

    training: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.training)

    def state_dict(self) -> dict[str, Any]:
        return {"training": list(self.training), "evaluations": [list(evaluation) for evaluation in self.evaluations]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.training = list(state["training"])
        self.evaluations = [Evaluation(*evaluation) for evaluation in state["evaluations"]]
