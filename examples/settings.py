"""Settings that are checked when they are read: every problem is reported with its path, and all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

from annotated_types import Ge, Lt
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from losses.core.errors import ConfigError, Problem, quoted, suggestion
from losses.core.parameters import Wording, problems_in

Size = Annotated[int, Ge(1), Wording("an integer of at least 1")]
Sizes = Annotated[list[Size], Wording("a list of integers of at least 1")]
Count = Annotated[int, Ge(0), Wording("an integer of at least 0")]
Fraction = Annotated[float, Ge(0), Lt(1), Wording("a number from 0 to 1, 1 excluded")]


class Settings(BaseModel):
    """Named values of declared types: an unknown key is an error, text is not a number, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def read(model: type[S], values: Mapping[str, Any]) -> S:
    """Return the settings that a mapping describes.

    Raises:
        ConfigError: with every problem found, each under its path.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        hints = get_type_hints(model, include_extras=True)
        raise ConfigError(*problems_in(error, {name: hints[name] for name in model.model_fields})) from None


def one_of(what: str, models: Mapping[str, type[Settings]]) -> BeforeValidator:
    """Return a validator that turns a name, or a mapping with a ``name``, into the settings of that name."""

    def choose(value: object) -> Settings:
        if isinstance(value, Settings):
            return value
        values = {"name": value} if isinstance(value, str) else value
        if not isinstance(values, Mapping):
            raise ConfigError(f"got {quoted(value)}, expected the name of a {what} or a mapping with a name")
        if "name" not in values:
            raise ConfigError(Problem(("name",), f"is missing, expected one of {', '.join(models)}"))
        name = values["name"]
        if not isinstance(name, str) or name not in models:
            raise ConfigError(
                Problem(
                    ("name",),
                    f"unknown {what} {quoted(name)}, available are {', '.join(models)}.{suggestion(name, models)}",
                )
            )
        return read(models[name], values)

    return BeforeValidator(choose)
