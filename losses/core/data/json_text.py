"""JSON text as plain data."""

from __future__ import annotations

import json
from typing import Any

from losses.core.data.plain import DEEPEST, MOST_VALUES, as_data
from losses.core.data.yaml_scalars import integer
from losses.core.errors import ConfigError, quoted


def data_from_json(text: str) -> Any:
    """Return JSON text as plain data, None for a blank text.

    Raises:
        ConfigError: it is no JSON, holds a key twice, an integer of too many digits or more than the limits of files.
    """
    if not text.strip():
        return None
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_int=integer)
    except RecursionError:
        raise ConfigError(f"is nested more than {DEEPEST} deep") from None
    except ValueError as error:
        raise ConfigError(f"is not plain JSON: {error}") from None
    return as_data(content, MOST_VALUES)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"the key {quoted(key)} stands there twice")
        entries[key] = value
    return entries
