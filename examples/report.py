"""What a run shows on the terminal: a progress bar, and at the end a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from history import Reading
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from tasks.task import Better, Metrics


class Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s", style="progress.data.speed")


def progress() -> Progress:
    """Return a progress bar whose tasks have a field ``loss``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        Rate(),
        TimeRemainingColumn(),
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
        sheet.add_column(f"{metric} {ARROWS[better[metric]]}" if metric in better else metric, justify="right")
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


def readings_table(runs: Mapping[str, Mapping[str, Reading]]) -> Table:
    """Return a table of the last readings of every run by its name: on training data, and below on validation data."""
    names = list(dict.fromkeys(name for readings in runs.values() for name in readings))
    sheet = Table(
        title="Readings of the loss on training data", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    sheet.add_column(overflow="fold", min_width=len(VALIDATION))
    for name in names:
        sheet.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for run, readings in runs.items():
        given = [readings.get(name, Reading(None, None)) for name in names]
        sheet.add_row(run, *(cell(reading.training, False) for reading in given))
        sheet.add_row(VALIDATION, *(cell(reading.validation, False) for reading in given), style="dim")
    return sheet


def collapse_warnings(runs: Mapping[str, Mapping[str, Reading]]) -> Iterator[str]:
    """Return a line for every run whose loss on training data is that of embeddings which are all one point."""
    for run, readings in runs.items():
        if "collapse" in readings and abs(readings["collapse"].training - 1) <= STUCK:
            yield (
                f"{run}: collapse is {readings['collapse'].training:.3f}, the loss of embeddings that are all one "
                "point; "
                "try a lower learning rate, semi-hard instead of hard mining, a bigger margin or bigger batches"
            )


VALIDATION = "  validation"
STUCK = 0.01  # as near to 1 as this, the reading ``collapse`` warns
