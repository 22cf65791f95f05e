"""Schedules: how a number of a loss changes over the calls in training mode, one vocabulary for all of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from losses.core.errors import ConfigError, Problem, quoted, suggestion
from losses.core.parameters import (
    LARGEST,
    Number,
    PositiveInteger,
    Probability,
    Vector,
    Wording,
    as_configuration,
    checked,
    declared_parameters,
    model_of,
)
from losses.core.precision import BUFFER_DTYPE

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class Schedule(ABC):
    """A number that changes with the calls in training mode and comes to rest after :attr:`steps` of them.

    In evaluation mode a loss counts with the :attr:`last` number, so that values of different times can be compared.
    """

    kind: str
    """What a configuration calls it."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """After how many calls it comes to rest."""

    @property
    @abstractmethod
    def last(self) -> float:
        """Where it comes to rest."""

    @property
    @abstractmethod
    def lowest(self) -> float:
        """The least number that it comes by."""

    @abstractmethod
    def at(self, progress: Tensor) -> Tensor:
        """Return the number after so many calls, of which none is read: a GPU would wait."""

    def config(self) -> dict[str, Any]:
        """Return the configuration that is read as this schedule again."""
        names = [parameter.name for parameter in declared_parameters(type(self).__init__)]
        return {"schedule": self.kind} | {name: as_configuration(getattr(self, f"_{name}", None)) for name in names}

    def __repr__(self) -> str:
        return repr(self.config())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.config() == other.config()

    __hash__ = None  # type: ignore[assignment]  # a mapping in a configuration has none


class Ramp(Schedule):
    """From one number to another within some steps."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        self._start, self._end, self._steps = start, end, steps

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def last(self) -> float:
        return self._end

    @property
    def lowest(self) -> float:
        return min(self._start, self._end)

    def at(self, progress: Tensor) -> Tensor:
        fraction = (progress.to(BUFFER_DTYPE) / self._steps).clamp(max=1)
        return self._start + (self._end - self._start) * self._risen(fraction)

    @abstractmethod
    def _risen(self, fraction: Tensor) -> Tensor:
        """Return which fraction of the way is gone after a fraction of the steps."""


class Linear(Ramp):
    """In equal steps from ``start`` to ``end``.

    >>> float(Linear(end=1.0, steps=4).at(torch.tensor(1)))
    0.25
    """

    kind = "linear"

    @checked
    def __init__(self, *, start: Number = 0.0, end: Number = 1.0, steps: PositiveInteger) -> None:
        super().__init__(start, end, steps)

    def _risen(self, fraction: Tensor) -> Tensor:
        return fraction


class Cosine(Ramp):
    """From ``start`` to ``end`` along half a wave of the cosine: slow, fast, slow.

    >>> round(float(Cosine(start=1.0, end=0.0, steps=4).at(torch.tensor(2))), 4)
    0.5
    """

    kind = "cosine"

    @checked
    def __init__(self, *, start: Number = 0.0, end: Number = 1.0, steps: PositiveInteger) -> None:
        super().__init__(start, end, steps)

    def _risen(self, fraction: Tensor) -> Tensor:
        return (1 - (math.pi * fraction).cos()) / 2


class Cyclical(Schedule):
    """From ``start`` to ``end`` in equal steps over the ``rising`` part of every ``period``, then at ``end`` until the
    next; after the last cycle it stays there (Fu et al. 2019, arXiv:1903.10145).

    >>> cyclical = Cyclical(period=8, cycles=2, rising=0.5)
    >>> [float(cyclical.at(torch.tensor(step))) for step in (0, 1, 4, 7, 8, 12, 16)]
    [0.0, 0.25, 1.0, 1.0, 0.0, 1.0, 1.0]
    """

    kind = "cyclical"

    @checked
    def __init__(
        self,
        *,
        start: Number = 0.0,
        end: Number = 1.0,
        period: PositiveInteger,
        cycles: PositiveInteger = 4,
        rising: Probability = 0.5,
    ) -> None:
        self._start, self._end, self._period, self._cycles, self._rising = start, end, period, cycles, rising

    @property
    def steps(self) -> int:
        return self._period * self._cycles

    @property
    def last(self) -> float:
        return self._end

    @property
    def lowest(self) -> float:
        return min(self._start, self._end)

    def at(self, progress: Tensor) -> Tensor:
        within = (progress % self._period).to(BUFFER_DTYPE) / max(1.0, self._rising * self._period)
        fraction = torch.where(progress >= self.steps, 1.0, within.clamp(max=1))
        return self._start + (self._end - self._start) * fraction


class Stepwise(Schedule):
    """The first of ``values`` until the first of ``at`` calls, then the second, and so on.

    >>> stepwise = Stepwise(values=[1.0, 0.1], at=[2])
    >>> [round(float(stepwise.at(torch.tensor(step))), 4) for step in (0, 1, 2)]
    [1.0, 1.0, 0.1]
    """

    kind = "steps"

    @checked
    def __init__(
        self, *, values: Vector, at: Annotated[Sequence[PositiveInteger], Wording("a list of integers")]
    ) -> None:
        self._values, self._at = list(values), list(at)
        if len(self._values) != len(self._at) + 1:
            message = (
                f"got {len(self._values)} values for {len(self._at)} changes; there is one value more than changes"
            )
            raise ConfigError(Problem(("values",), message))
        if any(later <= earlier for earlier, later in zip(self._at, self._at[1:], strict=False)):
            raise ConfigError(Problem(("at",), f"goes backwards, got {quoted(self._at)}; sort the steps, each once"))

    @property
    def steps(self) -> int:
        return self._at[-1] if self._at else 0

    @property
    def last(self) -> float:
        return float(self._values[-1])

    @property
    def lowest(self) -> float:
        return float(min(self._values))

    def at(self, progress: Tensor) -> Tensor:
        value = torch.full((), self._values[0], dtype=BUFFER_DTYPE, device=progress.device)
        for start, later in zip(self._at, self._values[1:], strict=True):
            value = torch.where(progress >= start, later, value)
        return value


KINDS: dict[str, type[Schedule]] = {cls.kind: cls for cls in (Linear, Cosine, Cyclical, Stepwise)}


def scheduled(value: object, minimum: float = -LARGEST) -> float | Schedule:
    """Return a number of at least ``minimum``, or the schedule of such that a mapping describes.

    Raises:
        ConfigError: it is neither; with every problem found.
    """
    if isinstance(value, Mapping | Schedule):
        schedule = schedule_of(value)
        if schedule.lowest < minimum:
            raise ConfigError(f"got a schedule that comes by {schedule.lowest}, expected numbers of at least {minimum}")
        return schedule
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= LARGEST:
        least = "" if minimum == -LARGEST else f" of at least {minimum}"
        raise ConfigError(
            f"got {quoted(value)}, expected a finite number{least} or a schedule such as "
            "{'schedule': 'linear', 'start': 0, 'end': 1, 'steps': 1000}"
        )
    return float(value)


def schedule_of(value: Mapping[str, Any] | Schedule) -> Schedule:
    """Return the schedule that a mapping describes."""
    if isinstance(value, Mapping):
        settings = dict(value)
        kind = settings.pop("schedule", None)
        if kind not in KINDS:
            known = ", ".join(KINDS)
            text = "is missing" if kind is None else f"unknown schedule {quoted(kind)}"
            raise ConfigError(Problem(("schedule",), f"{text}, there are {known}.{suggestion(kind, KINDS)}"))
        return KINDS[kind](**settings)
    return value


def value_at(number: float | Schedule, progress: Tensor | None) -> float | Tensor:
    """Return what a number is after so many calls; ``None`` asks for where it comes to rest."""
    if not isinstance(number, Schedule):
        return number
    return number.last if progress is None else number.at(progress)


class ScheduleRule:
    """Let a parameter be a number or a mapping that describes a schedule."""

    def __init__(self, minimum: float = -LARGEST) -> None:
        self.minimum = minimum

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(lambda value: scheduled(value, self.minimum))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number = {"type": "number", "minimum": self.minimum, "maximum": LARGEST}
        return {"anyOf": [number, *map(schema_of, KINDS.values())]}


def schema_of(schedule: type[Schedule]) -> dict[str, Any]:
    """Return the JSON Schema of a kind of schedule."""
    body = model_of(schedule.__init__).model_json_schema()
    return {
        "type": "object",
        "properties": {"schedule": {"const": schedule.kind}, **body["properties"]},
        "required": ["schedule", *body.get("required", [])],
        "additionalProperties": False,
    }


Scheduled = Annotated[
    float | Schedule | Mapping[str, Any], ScheduleRule(), Wording("a finite number or a mapping with a schedule")
]
ScheduledNonNegative = Annotated[
    float | Schedule | Mapping[str, Any],
    ScheduleRule(minimum=0),
    Wording("a finite number of at least 0 or a mapping with a schedule"),
]
