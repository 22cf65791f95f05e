"""The two errors of the package: a wrong configuration and a wrong batch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice
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
    """A configuration that cannot become a loss; ``problems`` lists everything that is wrong with it, of more than 50
    problems of one mapping the first and how many more there are.

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
    text = ""
    try:
        for piece in _written(value):
            text += piece
            if len(text) > LONGEST:
                return f"{text[:LONGEST]}..."
    except Exception:  # an integer of 5000 digits, a stranger's faulty __repr__
        return f"a {type(value).__name__} that cannot be shown"
    return text


def _written(value: object) -> Iterator[str]:
    """Yield the ``repr`` of a value piece by piece: of a million values, or a list in itself, none is made in vain."""
    if type(value) is dict:
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield ", " if index else ""
            yield from _written(key)
            yield ": "
            yield from _written(item)
        yield "}"
    elif type(value) is list or (type(value) is tuple and len(value) > 1):
        yield "[" if type(value) is list else "("
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _written(item)
        yield "]" if type(value) is list else ")"
    else:
        yield repr(value)


def listed(words: Iterable[str]) -> str:
    """Return words with commas between them: some of them, and how many more there are.

    >>> listed(["huber", "mse"])
    'huber, mse'
    """
    words = list(words)
    more = f" and {len(words) - MOST_SHOWN:,} more" if len(words) > MOST_SHOWN else ""
    return ", ".join(shortened(word) for word in words[:MOST_SHOWN]) + more


def shortened(text: str) -> str:
    """Return a text that fits into a message."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return `` Did you mean 'triplet'?`` if a known word is close to ``word``, else nothing.

    >>> suggestion("triplett", ["huber", "triplet"])
    " Did you mean 'triplet'?"
    """
    if not isinstance(word, str) or len(word) > LONGEST:
        return ""
    word, known = word.lower(), list(islice(known, MOST_COMPARED))
    near = difflib.get_close_matches(word, known, n=1, cutoff=NEAR)
    # letters that changed places
    swapped = [other for other in known if len(other) == len(word) and sorted(other) == sorted(word)]
    close = swapped or near
    return f" Did you mean {shortened(close[0])!r}?" if close else ""


LONGEST = 200
"""How many characters of a value or word a message shows."""

MOST_SHOWN = 50
"""How many words or problems of one kind a message names."""

MOST_COMPARED = 1000
"""Among how many words a close one is looked for, and how many problems are put into words."""
