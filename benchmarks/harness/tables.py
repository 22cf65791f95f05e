"""Tables, and numbers as their text."""

from __future__ import annotations

from rich import box
from rich.table import Table


def empty_table(title: str, *columns: str, text: int = 1, gap: int = 1) -> Table:
    """Return an empty table whose first columns, so many, are text and whose others are numbers."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
    for position, column in enumerate(columns):
        shown.add_column(column, justify="left" if position < text else "right", no_wrap=True)
    return shown


def short(number: float | None) -> str:
    """Return three digits of a number, all of those before the point."""
    if number is None:
        return ""
    return (
        f"{number:.0f}" if number >= 1000 else f"{number:.2f}" if number < 0.1 else f"{number:#.3g}".removesuffix(".")
    )


def limit(number: float | None, sign: str, unit: str = "") -> str:
    """Return a limit as text."""
    return "" if number is None else f"{sign}{number:g}{unit}"


def fraction(part: float) -> str:
    """Return a fraction as 1/25, or as a factor where it is above 1."""
    return f"1/{1 / part:.3g}" if 0 < part < 1 else f"{part:.3g}"


def verdict(kept: bool | None) -> str:
    """Return whether a limit was kept, in a word."""
    return "" if kept is None else "kept" if kept else "missed"


def yes_or_no(kept: bool | None) -> str:
    """Return an answer in a word."""
    return "" if kept is None else "yes" if kept else "no"
