"""What classes of pytorch-metric-learning take: their real signatures as declarations that are checked like our own."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
from torch import nn

from losses.adapters.pytorch_metric_learning import distances, reducers, regularizers
from losses.core.errors import ConfigError, Problem, quoted, suggestion
from losses.core.parameters import (
    LARGEST,
    Reduction,
    Wording,
    as_configuration,
    declared_parameters,
    validated,
)

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

NOT_TAKEN = {"mat_based_loss", "is_inverted", "collect_stats"}
"""Parameters of base classes that every class derived from them passes itself, and statistics, gone in version 3."""
SIZES = {
    *("num_classes", "embedding_size", "descriptors_dim", "centers_per_class", "sub_centers"),
    *("num_bins", "n_bins", "K", "l"),
}
"""Parameters that are the size of something."""
ROOMS: Mapping[str, ModuleType] = {
    "distance": distances,
    "reducer": reducers,
    "default_reducer": reducers,
    "embedding_regularizer": regularizers,
    "weight_regularizer": regularizers,
}
"""Parameters that are objects, and where their classes stand."""


class Rule(NamedTuple):
    """What one parameter may be: in words, as a function that returns what it accepts, and as a JSON Schema."""

    words: str
    accept: Callable[[Any], Any]
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.accept)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


@dataclass(frozen=True)
class Nested:
    """An object of pytorch-metric-learning as a parameter, and the configuration that it was made of."""

    made: Any
    said: Mapping[str, Any] | None

    def config(self) -> dict[str, Any]:
        if self.said is None:
            raise ConfigError(
                f"is {self}, given as an object, of which a configuration cannot be read; write it as one, "
                f"{{'name': {type(self.made).__name__!r}, ...}}"
            )
        return {name: as_configuration(value) for name, value in self.said.items()}

    def __repr__(self) -> str:
        return f"a {type(self.made).__name__}" if self.said is None else repr(self.config())


def signature_of(cls: type) -> dict[str, inspect.Parameter]:
    """Return what the constructor of a class takes, with what it hands on to those of its base classes."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is nn.Module:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    own = {name: parameter for name, parameter in found.items() if name not in NOT_TAKEN}
    return dict(sorted(own.items(), key=lambda item: item[1].default is not inspect.Parameter.empty))


def declare(init: Callable[..., None], cls: type, *, reduced: bool) -> None:
    """Give a constructor the signature of a class of pytorch-metric-learning, annotated with what is accepted.

    Args:
        init: that takes everything by keyword.
        cls: whose parameters they are.
        reduced: whether there is a ``reduction`` beside them.
    """
    taken = signature_of(cls)
    annotations = {name: annotation_of(parameter) for name, parameter in taken.items()}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=parameter.default)
        for name, parameter in taken.items()
    ]
    if reduced:
        annotations["reduction"] = Reduction
        parameters.append(inspect.Parameter("reduction", inspect.Parameter.KEYWORD_ONLY, default="mean"))
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    init.__dict__["__signature__"] = inspect.Signature([own, *parameters])
    init.__annotations__ = annotations
    init.__qualname__ = f"{cls.__name__}.__init__"


@functools.cache
def declaration_of(cls: type) -> Callable[..., None]:
    """Return the declaration of the parameters of a class."""

    def init(self: object, **parameters: object) -> None:
        """Never called: it is read."""

    declare(init, cls, reduced=False)
    return init


def annotation_of(parameter: inspect.Parameter) -> Any:
    """Return what a parameter may be, told by its name and its default: signatures there are not annotated."""
    if isinstance(parameter.default, bool):
        return bool
    rule = rule_of(parameter.name, parameter.default)
    return Annotated[Any, rule, Wording(rule.words)]


def rule_of(name: str, default: Any) -> Rule:
    if name in ROOMS:
        return optional(object_rule(ROOMS[name]))
    if name == "reducers":
        return REDUCERS
    if name == "weights":
        return VECTOR
    if name.endswith(("_func", "_fn")):
        return FUNCTION if callable(default) else optional(FUNCTION)
    rule = SIZE if name in SIZES else NUMBER
    if isinstance(default, str):
        return NUMBER_OR_TEXT
    return optional(rule) if default is None else rule


def number(value: Any) -> Any:
    """Return a number as it was written: 4 stays an integer, which counts there."""
    if isinstance(value, int | float) and -LARGEST <= value <= LARGEST:
        return value
    raise ValueError("expected a finite number")


def size(value: Any) -> int:
    if isinstance(value, int | float) and value > 0 and math.isfinite(value) and value == int(value):
        return int(value)
    raise ValueError("expected a whole number of at least 1")


def number_or_text(value: Any) -> Any:
    return value if isinstance(value, str) else number(value)


def function(value: Any) -> Any:
    if callable(value):
        return value
    raise ValueError("expected a function, which a file cannot say: pass it from Python")


def vector(value: Any) -> list[float]:
    numbers = value.tolist() if isinstance(value, torch.Tensor) else value
    if isinstance(numbers, Sequence) and not isinstance(numbers, str) and numbers:
        return [float(number(each)) for each in numbers]
    raise ValueError("expected a list of finite numbers")


def optional(rule: Rule) -> Rule:
    """Return a rule that accepts ``None`` too."""
    return Rule(
        f"{rule.words} or None",
        lambda value: None if value is None else rule.accept(value),
        {"anyOf": [dict(rule.schema), {"type": "null"}]},
    )


NUMBER = Rule("a finite number", number, {"type": "number"})
SIZE = Rule("a whole number of at least 1", size, {"type": "integer", "minimum": 1})
NUMBER_OR_TEXT = Rule("a finite number or text", number_or_text, {"type": ["number", "string"]})
FUNCTION = Rule("a function", function, {"not": {}})
VECTOR = Rule("a list of finite numbers", vector, {"type": "array", "items": {"type": "number"}, "minItems": 1})


@functools.cache
def classes_in(room: ModuleType) -> dict[str, type]:
    """Return the classes of a part of pytorch-metric-learning that can be built, by name."""
    base = getattr(room, f"Base{kind_of(room).capitalize()}")
    return {
        name: item
        for name, item in sorted(vars(room).items())
        if inspect.isclass(item) and issubclass(item, base) and item is not base
    }


def kind_of(room: ModuleType) -> str:
    """Return what one of a part of pytorch-metric-learning is called: of its ``distances`` a distance."""
    return room.__name__.rpartition(".")[2].removesuffix("s")


def object_rule(room: ModuleType) -> Rule:
    """Return what an object may be: its name, a mapping with a name and its parameters, or itself."""
    kind, names = kind_of(room), list(classes_in(room))

    def accept(value: Any) -> Nested:
        return nested(value, room)

    named = {"type": "object", "properties": {"name": {"enum": names}}, "required": ["name"]}
    words = f"the name of a {kind} of pytorch-metric-learning or a mapping with a name"
    return Rule(words, accept, {"anyOf": [{"enum": names}, named]})


def nested(value: Any, room: ModuleType) -> Nested:
    """Return the object that a configuration describes.

    Raises:
        ConfigError: the name, a key or a value is not accepted, each problem under its path.
    """
    if isinstance(value, Nested):
        return value
    if isinstance(value, nn.Module):
        return Nested(value, None)
    kind, said = kind_of(room), {"name": value} if isinstance(value, str) else value
    if not isinstance(said, Mapping):
        raise ValueError(f"expected the name of a {kind} of pytorch-metric-learning or a mapping with a name")
    known = classes_in(room)
    parameters = dict(said)
    name = parameters.pop("name", None)
    if name not in known:
        problem = "is missing" if name is None else f"unknown {kind} {quoted(name)}"
        raise ConfigError(Problem(("name",), f"{problem}, available are {', '.join(known)}.{suggestion(name, known)}"))
    cls = known[name]
    values = validated(declaration_of(cls), parameters)
    return Nested(constructed(cls, values), {"name": name} | {key: values[key] for key in parameters})


def several(value: Any) -> dict[str, Any]:
    """Return reducers by the names of the parts that each reduces."""
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping from names of parts of a loss to reducers")
    return {str(name): nested(each, reducers) for name, each in value.items()}


REDUCERS = Rule("a mapping from names of parts of a loss to reducers", several, {"type": "object"})


def constructed(cls: type, values: Mapping[str, Any]) -> Any:
    """Return an object of a class of pytorch-metric-learning; parameters that are as by default are not mentioned, for
    some classes pass them to their base classes themselves.

    Raises:
        ConfigError: it refuses.
    """
    defaults = {parameter.name: parameter.default for parameter in declared_parameters(declaration_of(cls))}
    passed = {
        name: as_argument(value)
        for name, value in values.items()
        if defaults[name] is inspect.Parameter.empty or value is not defaults[name]
        if isinstance(value, bool) or value != defaults[name]
    }
    try:
        return cls(**passed)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        said = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        raise ConfigError(f"{cls.__name__} of pytorch-metric-learning refuses these parameters: {said}") from error


def as_argument(value: Any) -> Any:
    """Return a checked value as it is passed on."""
    if isinstance(value, Nested):
        return value.made
    if isinstance(value, dict):
        return {name: as_argument(each) for name, each in value.items()}
    return torch.tensor(value) if isinstance(value, list) else value
