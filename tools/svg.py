"""Figures as SVG files that are the same whenever they are drawn."""

from collections.abc import Callable
from io import StringIO

import matplotlib
from matplotlib.figure import Figure

SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "losses", "font.size": 8.0}
"""Text stays text, and names inside the file do not change from one drawing to the next."""


def svg(figure_of: Callable[[], Figure]) -> str:
    """Return what draws a figure, drawn, as the text of an SVG file."""
    drawn = StringIO()
    with matplotlib.rc_context(SETTINGS):
        figure_of().savefig(drawn, format="svg", metadata={"Date": None})
    return "".join(f"{line.rstrip()}\n" for line in drawn.getvalue().splitlines())
