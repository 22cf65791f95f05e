"""Pictures of what ``python -m benchmarks ... --json`` wrote: how many times faster than the peer, by size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tools.svg import svg

COLUMNS = 2  # of panels
WIDTH, HEIGHT = 6.2, 2.9  # inches of a panel with its legend
MARKERS = "osD^vPX<>*"
SIZE_IN_NAME = re.compile(r"-(\d+(x\d+)*|\de\d)(?=-|$)")


def picture(numbers: Mapping[str, Any]) -> str:
    """Return the picture of a family as SVG, the same whenever it is drawn."""
    return svg(partial(figure_of, numbers))


def figure_of(numbers: Mapping[str, Any]) -> Figure:
    """Return the figure of a family: a panel for each loss, a curve for each form of it and each peer."""
    panels = panels_of(numbers["rows"], numbers["shape"])
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * rows), layout="constrained")
    places = list(figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (loss, curves) in zip(places, panels.items(), strict=False):
        draw(axes, loss, curves)
        axes.set_xlabel(numbers["shape"].partition("/")[0].replace("x", " x "))
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    return figure


MEBIBYTE = 1 << 20
ALL_TRIPLETS = re.compile(r"triplet-all-(\d+)(-cube)?")
NAMES = {"ours": "losses", "PML": "pytorch-metric-learning", "cube": "the N x N x N cube of plain torch"}


def memory_picture(numbers: Mapping[str, Any]) -> str:
    """Return the picture of how much memory a step over all triplets takes, by the size of the batch, as SVG."""
    return svg(partial(memory_figure, numbers))


def memory_figure(numbers: Mapping[str, Any]) -> Figure:
    """Return a curve for each side, of what was measured; what was too large to be measured is not there."""
    sides: dict[str, dict[int, float]] = {name: {} for name in NAMES}
    for row in numbers["rows"]:
        found = ALL_TRIPLETS.fullmatch(row["name"])
        if found and row["memory"]:
            size, memory = int(found[1]), row["memory"]
            sides["ours"][size] = memory["ours"] / MEBIBYTE
            if row["peer"] in sides and memory.get("peer"):
                sides[row["peer"]][size] = memory["peer"] / MEBIBYTE
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for (side, points), marker in zip(sides.items(), MARKERS, strict=False):
        if points:
            axes.plot(*zip(*sorted(points.items()), strict=True), marker=marker, markersize=4, label=NAMES[side])
    axes.set(
        xscale="log", yscale="log", xlabel="embeddings in the batch", ylabel="MiB beyond the batch, forward + backward"
    )
    axes.set_title("Triplet loss over all triplets of a batch")
    sizes = sorted(sides["ours"])
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.legend(frameon=False)
    return figure


Curve = list[tuple[float, Mapping[str, Any]]]


def panels_of(rows: Sequence[Mapping[str, Any]], heading: str) -> dict[str, dict[str, Curve]]:
    """Return the rows that were timed beside a peer, with their size, by loss, and by form and peer."""
    panels: dict[str, dict[str, Curve]] = {}
    for row in rows:
        if row["peer_over_ours"]:
            label = f"{SIZE_IN_NAME.sub('', row['name'])} ({row['peer']})"
            panels.setdefault(row["loss"], {}).setdefault(label, []).append((size_of(row, heading), row))
    return panels


def size_of(row: Mapping[str, Any], heading: str) -> float:
    """Return how large a batch is: its embeddings, or all its numbers."""
    return row["shape"][0] if "/" in heading else math.prod(row["shape"])


def draw(axes: Axes, loss: str, curves: Mapping[str, Curve]) -> None:
    """Draw the curves of a loss over a line at 1, with the quartiles, and a bar where a point has to reach."""
    axes.axhline(1, color="black", linewidth=0.8)
    for (label, points), marker in zip(curves.items(), cycle(MARKERS), strict=False):
        sizes, rows = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        ratios = [row["peer_over_ours"] for row in rows]
        (line,) = axes.plot(
            sizes, [ratio["median"] for ratio in ratios], marker=marker, markersize=4, linewidth=1, label=label
        )
        ends = ([ratio[end] for ratio in ratios] for end in ("lower", "upper"))
        axes.vlines(sizes, *ends, color=line.get_color(), linewidth=2, alpha=0.4)
        reaches = [(size, reach) for size, row in zip(sizes, rows, strict=True) if (reach := reach_of(row))]
        if reaches:
            axes.plot(*zip(*reaches, strict=True), "_", color=line.get_color(), markersize=12)
    axes.set(xscale="log", yscale="log", title=loss, ylabel="times faster")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}".replace("e+0", "e")))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelbottom=True, labelleft=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=7)


def reach_of(row: Mapping[str, Any]) -> float | None:
    """Return how many times faster than the peer a row has to be, if that is asked of it."""
    limits = row["limits"]
    return limits["faster"] or (1 / limits["slower"] if limits["slower"] else None)
