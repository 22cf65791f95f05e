"""Scalars of YAML 1.2: what a word without quotes means, after the core schema (section 10.3 of the specification).

``010`` is ten, ``0o10`` eight and ``1e-3`` a number; ``1:30``, ``yes``, ``no`` and ``2026-01-01`` are text, which they
are not in YAML 1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

Scalar = str | int | float | bool | None

MOST_DIGITS = 400
"""How long an integer may be: float64 ends at 309 digits, and the time to read digits grows with their square."""


class ScalarType(NamedTuple):
    """One type of the core schema: how it is written and what that means."""

    pattern: re.Pattern[str]
    read: Callable[[str], Scalar]


def integer(text: str) -> int:
    """Return the integer that the core schema or JSON writes so.

    Raises:
        ValueError: it has more than ``MOST_DIGITS`` digits.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"an integer has {len(text):,} digits, at most {MOST_DIGITS} are read")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def real(text: str) -> float:
    """Return the floating-point number that the core schema writes so."""
    # one NaN for all: as a key it is found again, and found to stand there twice
    return math.nan if text.lower() == ".nan" else float(text.lower().replace(".inf", "inf"))


CORE_SCHEMA = {
    "null": ScalarType(re.compile("null|Null|NULL|~|"), lambda text: None),
    "bool": ScalarType(re.compile("true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    "int": ScalarType(re.compile("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), integer),
    "float": ScalarType(
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"),
        real,
    ),
    "str": ScalarType(re.compile(".*", re.DOTALL), lambda text: text),
}
"""The types by the names of their tags, in the order in which they are tried."""


def resolved(text: str) -> Scalar:
    """Return what a word without quotes means.

    >>> [resolved(text) for text in ("010", "0o10", "1e-3", "1:30", "no", "~")]
    [10, 8, 0.001, '1:30', 'no', None]
    """
    return next(kind.read(text) for kind in CORE_SCHEMA.values() if kind.pattern.fullmatch(text))
