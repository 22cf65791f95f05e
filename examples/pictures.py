"""The pictures that a run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy
from history import History
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from torch import Tensor

from losses.diagnostics.generalization import Point

TRAINED, HELD_OUT, WRONG, FAINT = "#1f5fa8", "#d9730d", "#c0272d", "#9aa5b1"
RIGHT = "#2e8b57"
DOTS_PER_INCH = 120
COLUMNS = 3  # of panels


def draw_losses(history: History, title: str, unit: str, path: Path) -> None:
    """Draw the loss on training and validation data over the steps, with the gap between them.

    What lies beyond the axes is marked at their edge, and the legend says how far it goes.
    """
    figure, axes = page(7.5, 5.2)
    steps, training, validation = (numpy.array(column) for column in list(zip(*history.evaluations, strict=True))[:3])
    gap = f"generalisation gap, at last {history.evaluations[-1].gap:+.3g}"
    axes.plot(
        range(1, history.steps + 1),
        history.training,
        color=FAINT,
        linewidth=0.7,
        alpha=0.6,
        label="single training batches",
    )
    axes.plot(steps, training, color=TRAINED, marker="o", markersize=3, label="training data")
    axes.plot(steps, validation, color=HELD_OUT, marker="o", markersize=3, label="validation data")
    axes.fill_between(steps, training, validation, color=HELD_OUT, alpha=0.15, label=gap)
    # the fall from the untrained loss, or one wild batch, would flatten everything else
    settled = history.training[steps[1] :] if len(steps) > 1 else []
    shown = numpy.concatenate([training[1:], validation[1:], numpy.percentile(settled or training, [2, 98])])
    margin = 0.08 * float(numpy.ptp(shown)) or 1.0
    low, high = shown.min() - margin, shown.max() + margin
    axes.set_ylim(low, high)
    batches = numpy.arange(1, history.steps + 1), numpy.array(history.training)
    for points, color in ((batches, FAINT), ((steps, training), TRAINED), ((steps, validation), HELD_OUT)):
        mark_beyond(axes, *points, color)
    everything = numpy.concatenate([training, validation, history.training])
    for marker, beyond, furthest in (
        ("^", everything > high, everything.max(initial=high)),
        ("v", everything < low, everything.min(initial=low)),
    ):
        if beyond.any():
            axes.plot([], [], marker, color=WRONG, markersize=5, label=f"beyond the axis, as far as {furthest:.4g}")
    figure.suptitle(title)
    axes.set_title(f"Unit: {unit}" if unit else "", fontsize="small", color="dimgray")
    axes.set(xlabel="step", ylabel="loss")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def mark_beyond(axes: Axes, steps: numpy.ndarray, values: numpy.ndarray, color: str) -> None:
    """Mark the points of a curve that lie above or below the axes, at their edge."""
    low, high = axes.get_ylim()
    for edge, marker, beyond in ((high, "^", values > high), (low, "v", values < low)):
        if beyond.any():
            axes.plot(steps[beyond], numpy.full(beyond.sum(), edge), marker, color=color, markersize=5, clip_on=False)


def draw_remedies(courses: Mapping[str, Sequence[Sequence[Point]]], path: Path) -> None:
    """Draw training and validation loss over the steps, a panel for every remedy, a line for every seed."""
    rows = ceil(len(courses) / COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.6 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, (remedy, seeds) in zip(panels, courses.items(), strict=False):
        for points in seeds:
            steps = [point.step for point in points]
            training, validation = zip(*((point.training, point.validation) for point in points), strict=True)
            (trained,) = axes.plot(steps, training, color=TRAINED, linewidth=0.8, label="training data")
            (held_out,) = axes.plot(steps, validation, color=HELD_OUT, linewidth=0.8, label="validation data")
        axes.set(title=remedy, xlabel="step", ylabel="cross-entropy", ylim=(0, 0.4))
        axes.label_outer()
        unboxed(axes)
    for axes in panels[len(courses) :]:
        axes.set_visible(False)
    figure.suptitle("Malignant or not, learnt from 56 women: the gap, and what closes it")
    figure.legend(handles=[trained, held_out], loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


READING_UNITS = {
    "active_fraction": "fraction of items",
    "margin_violations": "fraction of anchors",
    "relative_loss": "ratio, without a unit",
    "effective_rank": "dimensions",
}
"""Of readings that are no distances."""


def draw_readings(history: History, title: str, distance: str, path: Path) -> None:
    """Draw every reading of the loss on training and validation data over the steps, each in a panel of its own.

    Args:
        history: of a loss with readings.
        title: what they are of.
        distance: in which the readings that are distances are measured.
        path: the file to write.
    """
    names = list(history.evaluations[-1].readings)
    rows = ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.6 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).flatten()
    steps = [evaluation.step for evaluation in history.evaluations]
    legend: dict[object, Line2D] = {}
    for position, (axes, name) in enumerate(zip(panels, names, strict=False)):
        training, validation = zip(*(evaluation.readings[name] for evaluation in history.evaluations), strict=True)
        lines = [
            *axes.plot(steps, training, color=TRAINED, marker="o", markersize=3, label="training data"),
            *axes.plot(steps, validation, color=HELD_OUT, marker="o", markersize=3, label="validation data"),
        ]
        if name == "relative_loss":
            mark = axes.axhline(
                1,
                color=WRONG,
                linestyle="--",
                linewidth=1,
                zorder=1,
                label="1: collapsed to one point (above: worse)",
            )
            axes.set_ylim(top=max(1.1, axes.get_ylim()[1]))
            lines.append(mark)
        legend |= {line.get_label(): line for line in lines}
        axes.set(
            title=name.replace("_", " "),
            xlabel="step" if position >= len(names) - COLUMNS else "",
            ylabel=READING_UNITS.get(name, f"{distance} distance" if distance else ""),
        )
        low, high = axes.get_ylim()
        axes.set_ylim(0, high + 0.05 * (high - min(low, 0)))  # a curve along the top is not hidden by the edge
        unboxed(axes)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.suptitle(f"Readings of {title}")
    figure.legend(handles=list(legend.values()), loc="outside lower center", ncols=len(legend), frameon=False)
    save(figure, path)


def draw_confusion(counts: Tensor, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw how often each class was taken for each other."""
    figure, axes = page(1.8 + 0.55 * max(5, len(classes)), 1.4 + 0.5 * max(5, len(classes)))
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in numpy.ndindex(*counts.shape):
        count = int(counts[row, column])
        axes.text(
            column,
            row,
            str(count) if count else "·",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    right = int(counts.trace())
    axes.set(title=f"{title}\n{right} of {int(counts.sum())} right", xlabel="predicted", ylabel="actual")
    save(figure, path)


def draw_outlier_fit(
    seen: tuple[Tensor, Tensor], wrong: Tensor, line: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor], path: Path
) -> None:
    """Draw the fit among the targets it was trained on, and its predictions against targets that are right."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    fit, test = figure.subplots(1, 2)
    measured, target = seen
    fit.scatter(measured[~wrong], target[~wrong], s=14, color=FAINT, label="targets as they are")
    fit.scatter(
        measured[wrong], target[wrong], s=28, color=WRONG, marker="x", label="outliers: the decimal point slipped"
    )
    fit.plot(*line, color=TRAINED, linewidth=2.5, label="prediction for an average patient")
    fit.set(
        title="What it was trained on",
        xlabel="body mass index, standardised",
        ylabel="progression of the disease",
        yscale="log",
    )
    predicted, actual = tested
    limits = [float(min(predicted.min(), actual.min())) - 20, float(max(predicted.max(), actual.max())) + 20]
    test.plot(limits, limits, color=FAINT, linestyle="--", label="perfect")
    test.scatter(predicted, actual, s=16, color=TRAINED, label="patients")
    error = float((predicted - actual).abs().mean())
    test.set(
        title=f"Patients it was not trained on: MAE {error:.1f}",
        xlabel="predicted",
        ylabel="actual",
        xlim=limits,
        ylim=limits,
    )
    test.set_aspect("equal")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    for axes in (fit, test):
        unboxed(axes)
    save(figure, path)


def draw_reconstructions(images: Tensor, reconstructions: Tensor, samples: Tensor, path: Path) -> None:
    """Draw images, what the model makes of them, and images that it made up."""
    figure, axes = page(0.8 * len(images) + 1.6, 0.8 * 3 + 0.5)
    rows = [images, reconstructions, samples]
    gap = 1
    side = images.shape[-1] + gap
    sheet = numpy.full((len(rows) * side - gap, len(images) * side - gap), numpy.nan)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures.numpy()):
            sheet[row * side :, column * side :][: picture.shape[0], : picture.shape[1]] = picture
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks(
        [(row + 0.5) * side - 1 for row in range(len(rows))], ["not trained on", "reconstructed", "made up"]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Reconstructions and samples")
    save(figure, path)


def draw_verification(
    curves: Mapping[str, tuple[numpy.ndarray, numpy.ndarray, str]],
    images: Tensor,
    labels: Tensor,
    queries: Tensor,
    neighbours: Tensor,
    path: Path,
) -> None:
    """Draw ROC curves, and queries with their nearest neighbours.

    Args:
        curves: by name, the shares of different and of same pairs that are accepted, and what the legend says of them.
        images: ``(N, H, W)``.
        labels: ``(N,)``.
        queries: indices of the images to show ``(Q,)``.
        neighbours: the indices of their neighbours, nearest first ``(Q, K)``.
        path: the file to write.
    """
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    roc, rows = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for (name, (wrongly, rightly, metrics)), color in zip(curves.items(), (TRAINED, FAINT), strict=True):
        roc.plot(wrongly, rightly, color=color, linewidth=2, label=f"{name}: {metrics}")
    chance = numpy.geomspace(1e-4, 1, 100)
    roc.plot(chance, 1 - chance, color=HELD_OUT, linestyle=":", label="both errors equal")
    roc.set(title="Is it the same letter?", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.01))
    roc.set(xlabel="fraction of different pairs that are accepted", ylabel="fraction of same pairs that are accepted")
    roc.legend(frameon=False, loc="lower right")
    unboxed(roc)

    gap, side = 4, images.shape[-1] + 4
    grid = numpy.concatenate([queries[:, None].numpy(), neighbours.numpy()], axis=1)
    sheet = numpy.zeros((grid.shape[0] * side, grid.shape[1] * side + side // 2))
    for (row, column), index in numpy.ndenumerate(grid):
        left, top = column * side + (side // 2 if column else 0), row * side
        sheet[top + gap // 2 :, left + gap // 2 :][: side - gap, : side - gap] = images[index]
        if column:
            hit = bool(labels[index] == labels[grid[row, 0]])
            frame = Rectangle(
                (left + 0.5, top + 0.5),
                side - 2,
                side - 2,
                fill=False,
                linewidth=1.8,
                edgecolor=RIGHT if hit else WRONG,
            )
            rows.add_patch(frame)
    rows.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    rows.set(title="Query, and its nearest neighbours (green: the same letter, red: another)", xticks=[], yticks=[])
    rows.spines[:].set_visible(False)
    save(figure, path)


def draw_planes(planes: Mapping[str, numpy.ndarray], images: numpy.ndarray, labels: numpy.ndarray, path: Path) -> None:
    """Draw images at the points of several planes, in the colour of their label.

    Args:
        planes: by its title, the points ``(N, 2)`` of each.
        images: ``(N, H, W)``, from 0 (paper) to 1 (ink).
        labels: ``(N,)``, at most ten different ones.
        path: the file to write.
    """
    rows = ceil(len(planes) / 2)
    figure = Figure(figsize=(8, 4 * rows), layout="constrained")
    colors = colormaps["tab10"](numpy.unique(labels, return_inverse=True)[1])
    for axes, (title, points) in zip(figure.subplots(rows, 2, squeeze=False).flatten(), planes.items(), strict=False):
        for point, image, color in zip(points, images, colors, strict=True):
            inked = numpy.broadcast_to(color, (*image.shape, 4)).copy()
            inked[..., 3] = image
            axes.add_artist(AnnotationBbox(OffsetImage(inked, zoom=0.5), point, frameon=False))
        low, high = points.min(0), points.max(0)
        margin = 0.05 * (high - low)
        axes.set(title=title, xticks=[], yticks=[])
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    save(figure, path, dots_per_inch=90)


def page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, in inches, with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    unboxed(axes)
    return figure, axes


def unboxed(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    figure.savefig(path, dpi=dots_per_inch)
