"""What a run shows on the terminal: a progress bar, and at the end a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from history import Reading
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from tasks.task import Better, Metrics


class Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s", style="progress.data.speed")


def progress(*, shown: bool = True) -> Progress:
    """Return a progress bar whose tasks have a field ``loss``, a text; of several processes one shows it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        Rate(),
        TimeRemainingColumn(),
        disable=not shown,
    )


def table(title: str, better: Better, baselines: Mapping[str, Metrics], trained: Mapping[str, Metrics]) -> Table:
    """Return a table with one row per method: the metrics of the task, then any others. The best of each is bold.

    Args:
        title: what the metrics are of.
        better: which way each metric of the task is better.
        baselines: metrics of what was not trained.
        trained: metrics of what was.
    """
    columns = [*better, *(metric for metric in next(iter(trained.values())) if metric not in better)]
    sheet = Table(title=title)
    sheet.add_column(no_wrap=True)
    for metric in columns:
        name = f"{metric}\n{ARROWS[better[metric]]}" if metric in better else metric
        sheet.add_column(name, justify="right", no_wrap=True)
    best = {metric: BEST[way](metrics[metric] for metrics in trained.values()) for metric, way in better.items()}
    for rows, style in ((baselines, "dim"), (trained, "")):
        for name, metrics in rows.items():
            cells = [cell(metrics.get(metric), metrics.get(metric) == best.get(metric, "none")) for metric in columns]
            sheet.add_row(name, *cells, style=style)
        sheet.add_section()
    return sheet


ARROWS = {"lower": "↓", "higher": "↑"}
BEST = {"lower": min, "higher": max}


def cell(value: float | None, best: bool) -> Text:
    """Return a metric to about four digits (0.0431, 24.61, 152.3), in bold if it is the best."""
    if value is None:
        return Text("")
    decimals = 4 if abs(value) < 2 else 2 if abs(value) < 100 else 1
    return Text(f"{value:.{decimals}f}", "bold" if best else "")


def widened(console: Console, sheet: Table) -> Console:
    """Return a console that is wide enough for a table: a long name is wrapped by the terminal, never cut."""
    needed = Measurement.get(console, console.options.update(max_width=10_000), sheet).maximum
    return console if needed <= console.width else Console(width=needed)


class MeasuredReadings(NamedTuple):
    """Readings by their names, and the distance that those of them which are distances are measured in."""

    readings: Mapping[str, Reading]
    distance: str


def readings_lines(runs: Mapping[str, MeasuredReadings]) -> Iterator[str]:
    """Yield the last readings of every run by its name, in columns: on training data, and below on validation data.

    A name has a line of its own, so that none is cut. A run without readings says so.
    """
    names = list(dict.fromkeys(name for readings, _ in runs.values() for name in readings))
    if not names:
        return
    yield "Readings of the loss"
    heads = [name.split("_") for name in names]
    width = max(WIDTH, *(len(word) + 1 for head in heads for word in head))
    for line in range(max(map(len, heads))):
        words = (head[line] if line < len(head) else "" for head in heads)
        yield " " * INDENT + "".join(f"{word:>{width}}" for word in words)
    for run, (readings, distance) in runs.items():
        measured = f" ({distance} distance)" if distance else ""
        yield f"{run}{measured}" if readings else f"{run}: none, its loss does not see embeddings"
        for part in Reading._fields if readings else ():
            cells = (cell(getattr(readings[name], part) if name in readings else None, False) for name in names)
            yield f"  {part:<{INDENT - 2}}" + "".join(f"{text.plain:>{width}}" for text in cells)
    if "relative_loss" in names:
        yield RELATIVE_LOSS


INDENT, WIDTH = 12, 11  # six readings of embeddings fit into 80 columns
RELATIVE_LOSS = (
    "relative loss: 1 is as much as if all embeddings had collapsed to one point,\n"
    "above 1 is more (negatives nearer than positives); it falls as they learn"
)


def collapse_warnings(runs: Mapping[str, MeasuredReadings]) -> Iterator[str]:
    """Return a line for every run whose loss on training data is that of embeddings which are all one point."""
    for run, (readings, _) in runs.items():
        if "relative_loss" in readings and abs(readings["relative_loss"].training - 1) <= STUCK:
            yield (
                f"{run}: the relative loss is {readings['relative_loss'].training:.3f}, that of embeddings which have "
                "collapsed to one point; "
                "try a lower learning rate, semi-hard instead of hard mining, a bigger margin or bigger batches"
            )


STUCK = 0.01  # as near to 1 as this, the relative loss warns
