"""The two errors of the package: a wrong configuration and a wrong batch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

Path = tuple[str | int, ...]
NEAR = 0.75
"""How alike two words are at least, from 0 to 1, for one to be suggested for the other: 'dice' is not near to 'ce'."""


class Problem(NamedTuple):
    """One thing that is wrong with a configuration: where it stands and what is wrong."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


class ConfigError(ValueError):
    """A configuration that cannot become a loss; ``problems`` lists everything that is wrong with it.

    >>> from losses.extend import Problem
    >>> print(ConfigError(Problem(("loss", "terms", 1, "margn"), "unknown key")))
    loss.terms[1].margn: unknown key
    """

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem((), p) if isinstance(p, str) else p for p in problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return "\n".join([f"{len(self.problems)} problems:", *(f"  - {problem}" for problem in self.problems)])

    def within(self, file: str) -> ConfigError:
        """Return the same problems, each telling the file it is in."""
        return ConfigError(
            *(Problem((f"{file}: {dotted(p.path)}",) if p.path else (file,), p.message) for p in self.problems)
        )

    def under(self, *prefix: str | int) -> ConfigError:
        """Return the same problems with ``prefix`` put before every path."""
        return ConfigError(*(Problem((*prefix, *p.path), p.message) for p in self.problems))


class InputError(ValueError):
    """Tensors that a loss cannot take; the message says what came, what was expected and the fix."""


def dotted(path: Path) -> str:
    """Return a path as it is written in a configuration: ``loss.terms[1].margin``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def quoted(value: object) -> str:
    """Return a value as it is shown in a message: short, and whatever it is.

    >>> quoted("semihard")
    "'semihard'"
    """
    try:
        text = repr(value)
    except Exception:  # an integer of 5000 digits, a mapping in itself, a stranger's faulty __repr__
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:200]}..."


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return `` Did you mean 'triplet'?`` if a known word is close to ``word``, else nothing.

    >>> suggestion("triplett", ["huber", "triplet"])
    " Did you mean 'triplet'?"
    """
    if not isinstance(word, str):
        return ""
    word, known = word.lower(), list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=NEAR)
    swapped = [other for other in known if sorted(other) == sorted(word)]  # letters that changed places
    close = swapped or near
    return f" Did you mean {close[0]!r}?" if close else ""
