"""From a name or a mapping to a loss, and losses as parameters of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from losses.core.data.plain import as_data
from losses.core.errors import ConfigError, Problem, quoted
from losses.core.loss import Loss
from losses.core.parameters import Wording
from losses.core.registry import PENALTIES, SPECS, find

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema


def build(config: object) -> Any:
    """Return the loss that a name or a mapping with a ``name`` describes; a loss is returned as it is.

    The name of a penalty gives one: see :func:`losses.create`.

    Raises:
        ConfigError: with every problem found, each under its path.
    """
    if isinstance(config, Loss):
        return config
    if isinstance(config, str):
        return maker_of(config)()
    if not isinstance(config, Mapping):
        raise ConfigError(f"got {quoted(config)}, expected the name of a loss or a mapping with a name")
    try:
        settings = {key if isinstance(key, str) else quoted(key): value for key, value in as_data(config).items()}
        if "name" not in settings:
            raise ConfigError(Problem(("name",), f"is missing, expected one of {', '.join(sorted(SPECS))}"))
        return maker_of(settings.pop("name"))(**settings)
    except RecursionError:
        raise ConfigError("is nested too deeply, or in itself") from None


def maker_of(name: object) -> Callable[..., Any]:
    """Return what makes a loss or a penalty of its parameters."""
    return PENALTIES[name] if isinstance(name, str) and name in PENALTIES else find(name).cls


def build_loss(config: object) -> Loss:
    """Return the loss that a name or a mapping describes, and refuse a penalty."""
    loss = build(config)
    if isinstance(loss, Loss):
        return loss
    raise ConfigError(f"got {type(loss).__name__}, which looks at {loss.looks_at}; expected a loss")


ANY_LOSS = {"$comment": "any loss"}
"""Where a JSON Schema says this, a reference to all losses belongs."""


class LossRule:
    """Let a parameter be a loss: an instance, a name or a nested mapping."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(build_loss)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(ANY_LOSS)  # pydantic follows every reference, so losses.schema() puts it in afterwards


NestedLoss = Annotated[
    Loss | str | Mapping[str, Any], LossRule(), Wording("the name of a loss or a mapping with a name")
]
