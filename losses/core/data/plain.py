"""Plain data: dicts, lists and scalars, bounded in number and in depth, so that no configuration can exhaust memory or
time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from losses.core.errors import ConfigError

MOST_VALUES = 50_000
"""How many values a file may hold: keys count, and what an alias repeats counts each time."""

MOST_VALUES_IN_MEMORY = 500_000
"""How many values a mapping that a program hands over may hold; what stands in several places counts each time."""

DEEPEST = 100
"""How many lists and mappings may stand in each other."""


class Allowance:
    """How many values may still come: whatever copies or expands data takes from it, and is refused when it is used up.

    Args:
        most: how many there are at first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.left = most

    def take(self, values: int, depth: int) -> None:
        """Raise if so many values more are too many, or stand in too many lists and mappings."""
        self.left -= values
        if self.left < 0:
            raise ConfigError(
                f"holds more than {self.most:,} values, counting keys and repetitions; "
                "pass a long list in Python, as a tensor"
            )
        if depth > DEEPEST:
            raise ConfigError(f"is nested more than {DEEPEST} deep, or in itself")


def as_data(value: Any, most: int = MOST_VALUES_IN_MEMORY) -> Any:
    """Return configuration objects of any library (such as Hydra's) as plain dicts and lists, nothing of them shared.

    Args:
        value: what is to be copied; what is neither a mapping nor a sequence is returned as it is.
        most: how many values it may hold.

    Raises:
        ConfigError: it holds more, or is nested more than ``DEEPEST`` deep, or in itself.
    """
    allowance = Allowance(most)
    allowance.take(1, 0)
    return _copy(value, allowance, 1)


def _copy(value: Any, allowance: Allowance, depth: int) -> Any:
    kind = type(value)
    if kind is dict or (kind is not list and isinstance(value, Mapping)):
        pairs = list(islice(value.items(), allowance.left + 1))
        allowance.take(2 * len(pairs), depth)
        return {key: item if type(item) in SCALARS else _copy(item, allowance, depth + 1) for key, item in pairs}
    if kind is list or (isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)):
        items = list(islice(value, allowance.left + 1))
        allowance.take(len(items), depth)
        return [item if type(item) in SCALARS else _copy(item, allowance, depth + 1) for item in items]
    return value


SCALARS = frozenset({str, int, float, bool, type(None)})
"""What is no container for certain: to ask the abstract classes about each of a million numbers takes a second."""
