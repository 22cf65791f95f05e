"""Documentation of a class as text to read in a terminal: no markup, and mathematics in one line."""

from __future__ import annotations

import inspect
import re
import unicodedata
from dataclasses import dataclass, field
from typing import NamedTuple

SYMBOLS = {
    "lambda": "λ",  # unicode spells it lamda
    "ell": "loss",
    "le": "≤",
    "ge": "≥",
    "ne": "≠",
    "infty": "∞",
    "cup": "∪",  # noqa: RUF001  (the union, no letter)
    "leftarrow": "←",
    "to": "→",
    "cdot": "·",
    "in": " in ",
    "|": "‖",
    "{": "{",
    "}": "}",
    "qquad": "\n",
    "\\": "\n",
}
SPACES = {",", ";", ":", " ", "quad"}
NOTHING = {"!", "big", "Big", "bigg", "Bigg", "left", "right", "textstyle", "displaystyle", "limits"}
OVER = {"sum": "sum", "prod": "product", "int": "integral", "max": "max", "min": "min", "sup": "sup", "inf": "inf"}
"""Operators whose subscript says what they run over."""
RAISED = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
TOKEN = re.compile(r"\\([a-zA-Z]+|.)|\s+|.", re.DOTALL)
SECTION = re.compile(r"[A-Z]\w*:$")
ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`]*)`")


class Documentation(NamedTuple):
    """What the documentation of a class says."""

    summary: str
    formula: tuple[str, ...]
    """Its mathematics, line by line."""
    details: tuple[str, ...]
    """The other paragraphs that belong to no section."""
    parameters: dict[str, str]
    """What the section ``Args:`` says of each parameter."""


def documentation(cls: type) -> Documentation:
    """Return what the documentation of a class says, each paragraph on one line and without markup."""
    text = inspect.cleandoc(cls.__doc__ or "")
    summary, *others = re.split(r"\n\s*\n", text)
    formula: list[str] = []
    details = []
    for paragraph in others:
        if paragraph.startswith(".. math::"):
            formula += formula_lines(paragraph.removeprefix(".. math::"))
        elif not (SECTION.match(paragraph.partition("\n")[0]) or paragraph.startswith((" ", ">>>", "===", ".. "))):
            details.append(prose(paragraph))
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n|\n)*)", f"{text}\n", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?:^ {5,}.*\n?)*)", section[1] if section else "", re.MULTILINE)
    return Documentation(prose(summary), tuple(formula), tuple(details), {name: prose(said) for name, said in entries})


def prose(text: str) -> str:
    """Return a paragraph of a docstring on one line, without its markup.

    >>> prose("``margin``: :math:`m_+^2`, see :class:`TripletLoss`, **not** `this`.")
    'margin: m_+², see TripletLoss, not this.'
    """
    text = re.sub(r":math:`([^`]*)`", lambda match: " ".join(formula_lines(match[1])), text)
    text = ROLE.sub(lambda match: match[1].rpartition(".")[2], text)
    text = re.sub(r"``([^`]*)``|`([^`<]*?)(?:\s*<[^`]*>)?`_?", lambda match: match[1] or match[2] or "", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"\1", text)
    return " ".join(text.split())


def formula_lines(latex: str) -> list[str]:
    r"""Return mathematics as text, a line for each part that stands apart.

    >>> formula_lines(r"\ell(r) = \frac{1}{N} \sum_i e^{-|r_i| / \delta}, \qquad r = \text{output} - \text{target}")
    ['loss(r) = 1/N sum over i of exp(-|r_i| / δ)', 'r = output - target']
    """
    text = Reader([match.group() for match in TOKEN.finditer(latex)]).rest()
    lines = (" ".join(line.split()).rstrip(",") for line in text.split("\n"))
    return [re.sub(r"([(\[]) | ([)\]])", r"\1\2", line) for line in lines if line]


@dataclass
class Reader:
    """Reads LaTeX token by token; what it does not know it hands on without its backslash."""

    tokens: list[str]
    place: int = field(default=0, init=False)

    def rest(self, end: str | None = None) -> str:
        """Return what stands before a token ``end``, or to the end."""
        text = ""
        while self.place < len(self.tokens):
            token = self._next()
            if token == end:
                break
            text = self._after(text, token)
        return text

    def _next(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]

    def _peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _argument(self) -> str:
        """Return the next group in braces, or the next token."""
        while self._peek().isspace():
            self.place += 1
        if not self._peek():
            return ""
        token = self._next()
        return self.rest("}").strip() if token == "{" else self._after("", token).strip()

    def _after(self, text: str, token: str) -> str:
        """Return ``text`` with a token and what belongs to it behind it."""
        if token == "{":
            return text + self.rest("}")
        if token == "^":
            return raised(text, self._argument())
        if token == "_":
            return f"{text}_{enclosed(self._argument())}"
        if not token.startswith("\\"):
            return text + (" " if token.isspace() else token)
        return text + self._command(token[1:])

    def _command(self, name: str) -> str:
        if name in OVER:
            return self._over(name)
        if name in ("frac", "tfrac", "dfrac"):
            return divided(self._argument(), self._argument())
        if name in ("text", "mathrm", "operatorname", "mathbf", "mathcal"):
            return self._argument()
        if name == "sqrt":
            return f"sqrt({self._argument()})"
        if name == "hat":
            return f"{self._argument()}\u0302"
        if name == "underbrace":
            return self._underbrace()
        if name in ("begin", "end"):
            return self._cases() if self._argument() == "cases" and name == "begin" else ""
        if name in NOTHING:
            return ""
        if name in SPACES or name.isspace():
            return " "
        return SYMBOLS[name] if name in SYMBOLS else greek(name) if name.isalpha() else ""

    def _over(self, name: str) -> str:
        """Return an operator with what it runs over, as in ``sum over i of``."""
        limits = {"_": "", "^": ""}
        while self._peek() in limits:
            side = self._next()
            limits[side] = self._argument()
        low, high = limits.values()
        if not low:
            return OVER[name] if name in ("max", "min") else f"{OVER[name]} of "
        return f"{OVER[name]} {f'from {low} to {high}' if high else f'over {low}'} of "

    def _underbrace(self) -> str:
        text = self._argument()
        if self._peek() == "_":  # what is written below the brace
            self.place += 1
            self._argument()
        return text

    def _cases(self) -> str:
        """Return values and their conditions, which are mathematics or words."""
        start = self.place
        while self._peek() not in ("", "\\end"):
            self.place += 1
        inner = self.tokens[start : self.place]
        cases = []
        for row in split(inner, "\\\\"):
            value, *condition = split(row, "&")
            words = any(token == "\\text" for part in condition for token in part)
            written = [Reader(part).rest().strip() for part in (value, *condition)]
            cases.append((" for " if words else " where ").join(written))
        return "; ".join(filter(None, cases))


def split(tokens: list[str], separator: str) -> list[list[str]]:
    """Return the tokens between separators."""
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def raised(text: str, power: str) -> str:
    """Return ``text`` to a power: e to it is exp, and figures and signs are raised."""
    if re.search(r"(?<![^\W\d_])e$", text):
        return f"{text[:-1]}exp({power})"
    return text + (power.translate(RAISED) if re.fullmatch(r"[-+]?\d*", power) else f"^{enclosed(power)}")


def divided(above: str, below: str) -> str:
    """Return a fraction: as it is of two symbols, in parentheses of anything longer."""
    if " " not in above + below:
        return f"{above}/{below}"
    return f"({grouped(above)} / {grouped(below)})"


def grouped(text: str) -> str:
    """Return an operand, in parentheses unless it holds together."""
    outside = text
    while (shorter := re.sub(r"\([^()]*\)", "", outside)) != outside:
        outside = shorter
    return f"({text})" if " " in outside else text


def greek(name: str) -> str:
    """Return a letter by its name, or else the name."""
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name}")
    except KeyError:
        return name


def enclosed(text: str) -> str:
    """Return an index or a power, in parentheses if it is longer than a word or a number."""
    return text if re.fullmatch(r"[\w+*-]*", text) else f"({text})"
