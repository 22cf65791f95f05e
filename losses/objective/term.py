"""A term of a weighted sum: a loss or penalty, how much it counts, and which parts of a batch it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from torch import nn

from losses.core.building import ANY_LOSS, build
from losses.core.errors import ConfigError, InputError, Problem, listed, quoted, suggestion
from losses.core.inputs.kind import kind_for
from losses.core.loss import Loss
from losses.core.parameters import Wording, checked
from losses.core.schedules import Schedule, ScheduleRule, scheduled
from losses.objective.penalties import Penalty

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

UNCERTAINTY = "uncertainty"
PARTS_OF_A_LOSS = ("output", "target"), "what the network made and should have made"


class TermLossRule:
    """Let a parameter be a loss or a penalty: an instance, a name or a mapping."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(loss_or_penalty)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(ANY_LOSS)


class WeightRule(ScheduleRule):
    """Let a parameter be a number, a schedule, or the word for a weight that is learned."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if value == UNCERTAINTY else scheduled(value)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*super().__get_pydantic_json_schema__(schema, handler)["anyOf"], {"const": UNCERTAINTY}]}


TermLoss = Annotated[
    Loss | Penalty | str | Mapping[str, Any],
    TermLossRule(),
    Wording("the name of a loss or penalty, or a mapping with a name"),
]
Weight = Annotated[
    float | Schedule | Literal["uncertainty"] | Mapping[str, Any],
    WeightRule(),
    Wording("a finite number, a mapping with a schedule, or 'uncertainty'"),
]
Key = Annotated[str, Wording("a key")] | Annotated[int, Wording("a position")] | None


class Term:
    """A term of a weighted sum.

    Args:
        loss: a loss, or a penalty on the parameters of the network.
        weight: how often it is counted: a number, below 0 for what is to be maximised; a schedule; or
            ``"uncertainty"``, a weight that is learned.
        output: key of the part of the output that it is given, or its position; ``None`` is the whole.
        target: likewise of the target.
        inputs: likewise of the inputs of the network, for a penalty that looks at them.
        name: what it is called in logs and messages; by default the name of the loss.
    """

    @checked
    def __init__(
        self,
        *,
        loss: TermLoss,
        weight: Weight = 1.0,
        output: Key = None,
        target: Key = None,
        inputs: Key = None,
        name: str | None = None,
    ) -> None:
        assert isinstance(loss, Loss | Penalty)  # built from its configuration by @checked
        self.loss = loss
        self.weight = weight
        self.output, self.target, self.inputs = output, target, inputs
        self.given_name = name
        self.name = name if name is not None else name_of(loss).rpartition(".")[2]
        self._require_sensible()

    def config(self) -> dict[str, Any]:
        """Return the configuration that is read as this term again, without what is as it is by default."""
        return {"loss": self.loss.config()} | self.beside_its_loss()

    def beside_its_loss(self) -> dict[str, Any]:
        """Return what there is to say of the term but its loss."""
        weight = self.weight.config() if isinstance(self.weight, Schedule) else self.weight
        parts = {"output": self.output, "target": self.target, "inputs": self.inputs, "name": self.given_name}
        return {"weight": weight} | {name: part for name, part in parts.items() if part is not None}

    def parts(self, output: Any, target: Any, inputs: Any) -> tuple[Any, Any]:
        """Return what is given to the loss, of which a target is left out that it has no use for, or to a penalty on
        the gradient: its parts of output and inputs.

        Raises:
            InputError: there is no such part.
        """
        part = picked(output, self.output, "output", self.name)
        if isinstance(self.loss, Penalty):
            return part, picked(inputs, self.inputs, "inputs", self.name)
        if self.target is None and target is not None:
            kind = kind_for(self.loss, part)
            return part, target if kind is None or kind.takes_target else None
        return part, picked(target, self.target, "target", self.name)

    def _require_sensible(self) -> None:
        taken = any(hasattr(place(), self.name) for place in (nn.ModuleDict, nn.ParameterDict))
        if taken or not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            why = "which every module has already" if taken else "expected letters, digits and _"
            message = f"got {quoted(self.name)}, {why}; give the term a name such as 'reconstruction'"
            raise ConfigError(Problem(("name",), message))
        is_loss = isinstance(self.loss, Loss)
        if is_loss and self.loss.reduction != "mean":
            message = f"got {self.loss.reduction!r}; set reduction on the weighted sum, which averages each term"
            raise ConfigError(Problem(("loss", "reduction"), message))
        if not is_loss and self.weight == UNCERTAINTY:
            message = "'uncertainty' is that of a loss; a penalty has none: give it a number or a schedule"
            raise ConfigError(Problem(("weight",), message))
        parts, looks_at = PARTS_OF_A_LOSS if isinstance(self.loss, Loss) else (self.loss.parts, self.loss.looks_at)
        for role in ("output", "target", "inputs"):
            if getattr(self, role) is not None and role not in parts:
                message = f"{name_of(self.loss)} looks at {looks_at} and at no {role}; leave it out"
                raise ConfigError(Problem((role,), message))


def loss_or_penalty(value: object) -> Loss | Penalty:
    """Return the loss or penalty that a name or a mapping describes."""
    built: Loss | Penalty = value if isinstance(value, Penalty) else build(value)
    return built


def name_of(loss: Loss | Penalty) -> str:
    """Return what a configuration calls a loss or penalty."""
    return loss.spec.name if isinstance(loss, Loss) else loss.name


def picked(whole: Any, key: str | int | None, role: str, term: str) -> Any:
    """Return a part of an output, of a target or of inputs: of a mapping or a NamedTuple by name, of a tuple or list by
    position.

    >>> picked({"logits": 1, "image": 2}, "image", "output", "reconstruction")
    2

    Raises:
        InputError: there is no such part; the message says which there are.
    """
    if key is None:
        return whole
    if isinstance(whole, Mapping):
        if key in whole:
            return whole[key]
        known = [str(name) for name in whole]
    elif isinstance(key, str) and isinstance(whole, tuple) and hasattr(whole, "_fields"):
        if key in whole._fields:
            return getattr(whole, key)
        known = list(whole._fields)
    elif isinstance(whole, Sequence) and not isinstance(whole, str):
        if isinstance(key, int) and -len(whole) <= key < len(whole):
            return whole[key]
        known = [str(place) for place in range(len(whole))]
    else:
        raise InputError(
            f"{term}: {role}={key!r} is a part of a mapping or tuple, the {role} is a {type(whole).__name__}; return "
            f"one from the network, or leave {role} out"
        )
    hint = suggestion(key, known)
    if str(key) in known:  # a position given as text, or text as a position
        hint = f" Write {role}: {key if isinstance(key, str) and not isinstance(whole, Mapping) else repr(str(key))}."
    raise InputError(f"{term}: the {role} has no part {key!r}, there are {listed(known) or 'none'}.{hint}")
