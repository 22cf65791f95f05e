"""What a parameter of a loss may be: one annotation is its check, its error text and its JSON Schema.

The annotated signature of a constructor is the only declaration of a loss's parameters. :func:`checked` lets pydantic
validate what is given against it; pydantic itself is imported when the first loss is built, not with the package.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from losses.core.errors import MOST_COMPARED, MOST_SHOWN, ConfigError, Path, Problem, quoted, shortened, suggestion
from losses.core.foreign_names import foreign_parameter, foreign_value
from losses.core.precision import BUFFER_DTYPE

if TYPE_CHECKING:
    from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
    from pydantic_core import CoreSchema

P = ParamSpec("P")
T = TypeVar("T")


class Wording(NamedTuple):
    """The words for what an annotation accepts, used in error messages and descriptions."""

    text: str


class VectorRule(NamedTuple):
    """Accept a list of numbers or a one-dimensional tensor, and hand the constructor a list of numbers."""

    minimum: float | None = None
    inside: tuple[float, float] | None = None
    """Bounds that are both excluded."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        low = -LARGEST if self.minimum is None else self.minimum
        bounds: dict[str, Any] = {"ge": low, "le": LARGEST}
        if self.inside is not None:
            bounds = {"gt": self.inside[0], "lt": self.inside[1]}
        number = core_schema.float_schema(**bounds, allow_inf_nan=False, strict=True)
        numbers = core_schema.list_schema(number, min_length=1, strict=True)
        return core_schema.no_info_before_validator_function(_listed, numbers)


class IntegerRule:
    """Accept a whole number however it is written: 3 and 3.0, as JSON Schema does."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_whole, handler(source))


LARGEST = 1e18
"""Bound of every number: its square still fits into float32."""

Number = Annotated[float, Ge(-LARGEST), Le(LARGEST), Wording("a finite number")]
Positive = Annotated[float, Gt(0), Le(LARGEST), Wording("a finite number greater than 0")]
NonNegative = Annotated[float, Ge(0), Le(LARGEST), Wording("a finite number of at least 0")]
AtLeastOne = Annotated[float, Ge(1), Le(LARGEST), Wording("a finite number of at least 1")]
Probability = Annotated[float, Ge(0), Le(1), Wording("a number from 0 to 1")]
InnerProbability = Annotated[float, Gt(0), Lt(1), Wording("a number between 0 and 1, both excluded")]
Cosine = Annotated[float, Ge(-1), Le(1), Wording("a number from -1 to 1")]
Integer = Annotated[int, Ge(-(2**63)), Le(2**63 - 1), IntegerRule(), Wording("an integer of 64 bits")]
PositiveInteger = Annotated[int, Ge(1), Le(2**53), IntegerRule(), Wording("an integer of at least 1")]
Count = Annotated[int, Ge(0), Le(2**53), IntegerRule(), Wording("an integer of at least 0")]
Vector = Annotated[Sequence[float] | Tensor, VectorRule(), Wording("a list of finite numbers")]
NonNegativeVector = Annotated[
    Sequence[float] | Tensor, VectorRule(minimum=0), Wording("a list of finite numbers of at least 0")
]
InnerProbabilityVector = Annotated[
    Sequence[float] | Tensor,
    VectorRule(inside=(0, 1)),
    Wording("a list of numbers between 0 and 1, both excluded"),
]
Reduction = Literal["mean", "sum", "none"]
Average = Literal["active", "all"]
Distance = Literal["euclidean", "squared_euclidean", "cosine"]
DistributionForm = Literal["logits", "log_probs", "probs"]
ClassForm = Literal["binary", "multiclass"]


class DeclaredParameter(NamedTuple):
    """One parameter of a loss as its constructor declares it."""

    name: str
    annotation: Any
    default: Any

    @property
    def accepts(self) -> str:
        return accepted(self.annotation)


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Validate a constructor's keyword arguments against its own annotations before it runs.

    Raises:
        ConfigError: an argument is unknown, missing or not what its annotation says; all problems at once.
    """

    @functools.wraps(init)
    def checked_init(self: object, /, *args: object, **given: object) -> None:
        if args:
            names = ", ".join(parameter.name for parameter in declared_parameters(init))
            raise ConfigError(
                f"{type(self).__name__} takes its parameters by keyword, got {quoted(args[0])} by position; write one "
                f"of {names} before it"
            )
        construct: Callable[..., None] = init
        construct(self, **validated(init, given))

    checked_init.__dict__["is_checked"] = True
    return checked_init  # type: ignore[return-value]  # the same signature, enforced by validated()


@functools.cache
def declared_parameters(init: Callable[..., None]) -> list[DeclaredParameter]:
    """Return the parameters that a constructor declares, in order."""
    init = inspect.unwrap(init)
    hints = get_type_hints(init, include_extras=True)
    signature = list(inspect.signature(init).parameters.values())[1:]
    return [DeclaredParameter(p.name, hints[p.name], p.default) for p in signature]


def validated(init: Callable[..., None], given: Mapping[str, object]) -> dict[str, Any]:
    """Return ``given`` completed and converted as the annotations of ``init`` say, or raise one ConfigError for all
    problems."""
    from pydantic import ValidationError

    annotations = {parameter.name: parameter.annotation for parameter in declared_parameters(init)}
    unknown = [name for name in given if name not in annotations]
    problems = problems_of(unknown, lambda name: [unknown_key((name,), annotations)])
    try:
        model = model_of(init).model_validate({name: value for name, value in given.items() if name in annotations})
    except ValidationError as error:
        raise ConfigError(*problems_in(error, annotations), *problems) from None
    if problems:
        raise ConfigError(*problems)
    return {name: getattr(model, name) for name in annotations}


def problems_in(error: ValidationError, annotations: Mapping[str, Any]) -> list[Problem]:
    """Return what pydantic found wrong, each problem once, in words: the key's path, what came and what is accepted;
    of a great many, the first and how many more there are.

    Args:
        error: what pydantic raised for a mapping.
        annotations: the annotation of every key.
    """
    return problems_of(error.errors(include_url=False), lambda detail: _problems(detail, annotations))


def problems_of(faults: Sequence[T], described: Callable[[T], list[Problem]]) -> list[Problem]:
    """Return the problems that faults are, each once; of a great many, the first and how many more there are."""
    problems = list(dict.fromkeys(problem for fault in faults[:MOST_COMPARED] for problem in described(fault)))
    more = len(problems) - MOST_SHOWN
    at_least = "at least " if len(faults) > MOST_COMPARED else ""
    return [*problems[:MOST_SHOWN], Problem((), f"and {at_least}{more:,} problems more")] if more > 0 else problems


@functools.cache
def model_of(init: Callable[..., None]) -> type[BaseModel]:
    """Return the pydantic model of a constructor's parameters."""
    from pydantic import BeforeValidator, ConfigDict, create_model

    fields: dict[str, Any] = {
        parameter.name: (
            parameter.annotation
            if parameter.annotation is bool
            else Annotated[parameter.annotation, BeforeValidator(_not_a_bool)],
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in declared_parameters(init)
    }
    config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, validate_default=True
    )
    return create_model(inspect.unwrap(init).__qualname__.split(".")[0], __config__=config, **fields)


def accepted(annotation: Any) -> str:
    """Return in words what an annotation accepts.

    >>> accepted(Positive | Literal["soft"])
    "a finite number greater than 0 or 'soft'"
    """
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            if isinstance(item, Wording):
                return item.text
        return accepted(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return _alternatives([repr(value) for value in get_args(annotation)])
    if get_origin(annotation) in (Union, types.UnionType):
        return _alternatives([accepted(option) for option in get_args(annotation)])
    return {type(None): "None", int: "an integer", float: "a finite number", bool: "true or false", str: "text"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def register_values(module: nn.Module, **values: Sequence[float] | Tensor | float | None) -> None:
    """Set parameters on a module: a list as a buffer that moves with it, anything else as it is."""
    for name, value in values.items():
        if isinstance(value, Sequence | Tensor):
            module.register_buffer(name, torch.as_tensor(value, dtype=BUFFER_DTYPE))
        else:
            setattr(module, name, value)


def as_configuration(value: Any) -> Any:
    """Return a parameter's value as configuration data: tensors become the shortest lists that read back the same.

    Raises:
        ConfigError: a tensor whose values cannot be read, as on the meta device.
    """
    if isinstance(value, Tensor):
        values = value.detach().flatten()
        values = values.float() if values.dtype is torch.bfloat16 else values  # which numpy lacks
        try:
            # numpy prints the shortest decimal that rounds to the same float, so [0.1] stays [0.1]
            return [float(str(number)) for number in values.cpu().numpy()]
        except (RuntimeError, TypeError):  # of the meta device, of a FakeTensor, of a tensor under torch.func
            raise ConfigError(
                f"its {values.numel()} numbers cannot be read from a {type(value).__name__} on {value.device}; ask for "
                "the configuration before the loss is there, or once its values are back"
            ) from None
    config = getattr(value, "config", None)
    return config() if callable(config) else value


def unknown_key(path: Path, known: Iterable[str]) -> Problem:
    """Return the problem of a key that nothing is declared for."""
    path = (*path[:-1], shortened(str(path[-1])))
    known = list(known)
    hint = foreign_parameter(str(path[-1]), known) or suggestion(path[-1], known)
    return Problem(path, f"unknown key, accepted are {', '.join(known)}.{hint}")


def _problems(detail: Any, annotations: Mapping[str, Any]) -> list[Problem]:
    value, inner = detail["input"], detail.get("ctx", {}).get("error")
    # without pydantic's names of options
    path = (*detail["loc"][:1], *(part for part in detail["loc"][1:] if isinstance(part, int)))
    if isinstance(inner, ConfigError):
        return list(inner.under(*path).problems)
    name = path[0]
    if detail["type"] == "extra_forbidden":
        return [unknown_key(path, annotations)]
    annotation = _of_items(annotations[name]) if len(path) > 1 else annotations[name]
    if detail["type"] == "missing":
        return [Problem(path, f"is missing, expected {accepted(annotation)}")]
    hint = foreign_value(str(name), value) or suggestion(value, _words(annotation)) if isinstance(value, str) else ""
    if isinstance(inner, ValueError) and not isinstance(value, bool):
        return [Problem(path, f"got {quoted(value)}, {inner}{hint}")]
    if isinstance(value, str) and not hint and _is_number(value):
        hint = " The value is text: remove the quotes."
    return [Problem(path, f"got {quoted(value)}, expected {accepted(annotation)}.{hint}")]


def _of_items(annotation: Any) -> Any:
    """Return the annotation of a list's items, or the annotation itself if it is no list."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_args(inner)[0] if get_origin(inner) is list else annotation


def _words(annotation: Any) -> list[str]:
    """Return every text that an annotation accepts literally."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [word for option in get_args(annotation) for word in _words(option)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _alternatives(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def _listed(value: object) -> object:
    if isinstance(value, Tensor):
        if value.ndim != 1:
            raise ValueError(f"a tensor of shape {tuple(value.shape)}; expected one dimension")
        try:
            return value.tolist()
        except (RuntimeError, NotImplementedError):
            raise ValueError("a tensor whose values cannot be read; expected a dense one that holds numbers") from None
    # sequences of other libraries, such as Hydra's, are lists too
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray) else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is not accepted here")
    return value
