"""Pictures of ``docs/concepts.md``: each curve, fit and arrow is a value or a gradient of a loss of this package."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor, nn

import losses
from losses import Loss, VAEOutput
from tools.concepts_fits import descended, fitted_l1, fitted_l2, fitted_normal
from tools.svg import svg

FOLDER = Path(__file__).parent.parent / "docs" / "concepts"
BLUE, ORANGE, GREEN, GREY = "tab:blue", "tab:orange", "tab:green", "0.55"


def descent() -> Figure:
    """The mean squared error of a line over its slope and intercept, and the way that gradient descent takes."""
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 2.5]).double()
    y = torch.tensor([-0.6, 0.9, 0.7, 2.1, 2.6, 3.7]).double()
    slopes, intercepts = torch.meshgrid(between(-1.2, 2.6), between(-1.2, 2.6), indexing="xy")
    predictions = slopes[..., None] * x + intercepts[..., None]
    values = losses.MSELoss(reduction="none")(predictions, y.expand_as(predictions)).mean(-1)

    line = torch.tensor([-0.8, -0.8]).double().requires_grad_()
    path = [line.detach().clone()]
    for _ in range(40):
        (gradient,) = torch.autograd.grad(losses.create("mse")(line[0] * x + line[1], y), line)
        line.data -= 0.12 * gradient
        path.append(line.detach().clone())

    figure, (left, right) = panels("loss over both parameters", "the line they describe")
    left.contour(slopes, intercepts, values, levels=[0.2, 0.5, 1, 2, 4, 8, 16], colors=GREY, linewidths=0.7)
    left.plot(*torch.stack(path).T, ".-", color=BLUE, linewidth=1, markersize=4)
    left.set(xlabel="slope", ylabel="intercept", aspect="equal")
    right.plot(x, y, "o", color="black", markersize=4, label="data")
    ends = torch.tensor([-1.3, 2.8]).double()
    for step, colour in ((0, GREY), (2, ORANGE), (40, BLUE)):
        right.plot(ends, path[step][0] * ends + path[step][1], color=colour, label=f"after {step} steps")
    right.set(xlabel="input", ylabel="output")
    right.legend(frameon=False)
    return figure


def surrogates() -> Figure:
    """Losses of a binary decision over the margin, and their derivatives."""
    margins = between(-3, 3)
    curves = {
        "hinge": (losses.HingeLoss(reduction="none"), 1.0, ORANGE, "--"),
        "squared hinge": (losses.HingeLoss(power=2, reduction="none"), 1.0, GREEN, ":"),
        "logistic / log 2": (losses.BinaryCrossEntropyLoss(reduction="none"), math.log(2), BLUE, "-"),
    }
    figure, (left, right) = panels("loss", "derivative with respect to the margin")
    for axes, jump in ((left, 1.0), (right, 0.0)):
        axes.plot([-3, 0], [jump, jump], color="black", label="0-1 (no derivative at 0)")
        axes.plot([0, 3], [0, 0], color="black")
    for label, (loss, unit, colour, style) in curves.items():
        value, slope = with_slope(loss, margins, torch.ones_like(margins))
        left.plot(margins, value / unit, style, color=colour, label=label)
        right.plot(margins, broken(slope / unit), style, color=colour)
    left.set(ylim=(-0.2, 5), xlabel="margin: label (±1) times score")
    right.set(ylim=(-4, 0.5), xlabel="margin: label (±1) times score")
    left.legend(frameon=False)
    return figure


def probabilities() -> Figure:
    """Cross-entropy of two classes over the probability that the right one is given."""
    probability = between(0.004, 0.996)
    logits = torch.stack([probability.logit(), torch.zeros_like(probability)], 1)
    target = torch.zeros(len(probability), dtype=torch.long)
    figure, (left, right) = panels("loss", "derivative with respect to its logit")
    for smoothing, colour, style in ((0.0, BLUE, "-"), (0.2, ORANGE, "--")):
        loss = losses.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
        value, slope = with_slope(loss, logits, target)
        label = f"label_smoothing={smoothing:g}"
        left.plot(probability, value, style, color=colour, label=label)
        right.plot(probability, slope[:, 0], style, color=colour)
        if smoothing:
            left.plot(probability[value.argmin()], value.min(), "o", color=colour, markersize=4)
    right.axhline(0, color="black", linewidth=0.6)
    for axes in (left, right):
        axes.set_xlabel("probability of the right class")
    left.legend(frameon=False)
    return figure


def residuals() -> Figure:
    """Losses of regression over the residual, and their derivatives."""
    residual = between(-3, 3)
    figure, (left, right) = panels("loss", "derivative with respect to the prediction")
    for name, colour, style in (("mse", BLUE, "-"), ("mae", ORANGE, "--"), ("huber", GREEN, "-.")):
        value, slope = with_slope(losses.create(name, reduction="none"), residual, torch.zeros_like(residual))
        left.plot(residual, value, style, color=colour, label=name)
        right.plot(residual, broken(slope), style, color=colour)
    left.set(ylim=(-0.2, 5), xlabel="residual: prediction - target")
    right.set(ylim=(-4, 4), xlabel="residual: prediction - target")
    left.legend(frameon=False)
    return figure


def embeddings() -> Figure:
    """Where two losses send an anchor, a positive and two negatives: arrows are their own negative gradients."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.5], [0.4, -0.9], [-1.6, 0.9]]).double().requires_grad_()
    anchor, positive, *negatives = points
    pairs = losses.Pairs(anchor.expand(3, -1), points[1:])
    triplets = losses.Triplets(anchor.expand(2, -1), positive.expand(2, -1), torch.stack(negatives))
    contrastive = losses.ContrastiveLoss(margin=1.5)(pairs, torch.tensor([1, 0, 0]))
    triplet = losses.TripletLoss(margin=0.4)(triplets)
    beyond = float((positive - anchor).norm().detach()) + 0.4

    figure, (left, right) = panels("contrastive", "triplet", height=3.3)
    for axes, value, radius, name in ((left, contrastive, 1.5, "margin"), (right, triplet, beyond, "d(a, p) + margin")):
        (gradient,) = torch.autograd.grad(value, points)
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, linestyle="--"))
        axes.text(0, -radius - 0.08, name, ha="center", va="top")
        axes.plot(*points[0].tolist(), "k*", label="anchor", markersize=8)
        axes.plot(*points[1].tolist(), "o", color=BLUE, label="positive", markersize=7)
        axes.plot(*points[2:].detach().T, "s", color=ORANGE, label="negatives", markersize=7)
        moved = gradient.any(1)
        steps = -0.7 * gradient / gradient.norm(dim=1).max()  # one length for the longest arrow of a panel
        axes.quiver(
            *points[moved].detach().T, *steps[moved].T,
            angles="xy", scale_units="xy", scale=1, width=0.008, color="0.25", zorder=3,
        )  # fmt: skip
        axes.set(xlim=(-2.3, 2.3), ylim=(-2.1, 1.7), aspect="equal")
        axes.set_axis_off()
    left.legend(frameon=False, loc="lower right")
    return figure


def directions() -> Figure:
    """One normal distribution fitted to two modes by both directions of KL."""
    outcomes = between(-5, 5)
    target = 0.6 * normal(outcomes, -2.0, 0.6) + 0.4 * normal(outcomes, 2.0, 0.6)
    target = target / target.sum()
    spacing = float(outcomes[1] - outcomes[0])
    figure, places = panels("forward: KL(target ‖ output)", "reverse: KL(output ‖ target)")
    for axes, direction in zip(places, ("forward", "reverse"), strict=True):
        axes.fill_between(outcomes, target / spacing, color="0.85", label="target")
        for start, style in ((-1.5, "-"), (1.5, "--")):
            output = fitted_normal(direction, start, outcomes, target)
            axes.plot(outcomes, output / spacing, style, color=BLUE, label=f"fit from a mean of {start:g}")
        axes.set(xlabel="outcome", ylabel="density", ylim=(0, 1))
        axes.legend(frameon=False)
    return figure


def moving() -> Figure:
    """What three losses say of two histograms while one of them moves away."""
    bins, size, most = 40, 5, 30
    target = torch.zeros(bins)
    target[3 : 3 + size] = 1 / size
    outputs = torch.stack([target.roll(shift) for shift in range(most + 1)])
    forms = {"output_form": "probs", "target_form": "probs", "reduction": "none"}
    chosen = {
        "kl_divergence": losses.create("kl_divergence", **forms),
        "js_divergence": losses.create("js_divergence", **forms),
        "wasserstein": losses.create("wasserstein", form="probs", reduction="none"),
    }
    figure, (first, *places) = panels("two histograms, 12 apart", *chosen, width=2.4)
    first.bar(range(bins), target.tolist(), width=1, color="0.7", label="target")
    first.bar(range(bins), outputs[12].tolist(), width=1, color=BLUE, label="output")
    first.set(xlabel="outcome", ylim=(0, 0.32), ylabel="probability")
    first.legend(frameon=False)
    for axes, (name, loss) in zip(places, chosen.items(), strict=True):
        axes.plot(loss(outputs, target.expand_as(outputs)), ".-", color=BLUE, markersize=3)
        axes.set(xlabel="how far apart", ylabel="bins" if name == "wasserstein" else "nats")
        axes.axvspan(size, most, color="0.93", zorder=0)
    places[1].set_ylim(0, 0.8)
    places[0].text(6, 20, "by definition infinite\nfrom 1 on; kept finite\nin float32", va="bottom")
    return figure


def codes() -> Figure:
    """The parts of the ELBO over the deviation of the code, and where their sums are least."""
    deviation = between(0.15, 1.6)[:, None]
    zeros = torch.zeros_like(deviation)
    # a decoder that passes the code on: the code is the data plus or minus its deviation, which has the mean square
    output = VAEOutput(deviation, zeros, 2 * deviation.log())

    def elbo(beta: float) -> Tensor:
        return losses.ELBOLoss(reconstruction="mse", beta=beta, reduction="none")(output, zeros)

    figure, (axes,) = panels("loss of one sample", width=4.6)
    axes.plot(deviation, elbo(0), "--", color=GREEN, label="reconstruction")
    axes.plot(deviation, elbo(1) - elbo(0), ":", color=ORANGE, label="divergence from the prior")
    for beta, colour in ((1, BLUE), (4, "tab:purple")):
        value = elbo(beta)
        axes.plot(deviation, value, color=colour, label=f"elbo, beta={beta}")
        axes.plot(deviation[value.argmin()], value.min(), "o", color=colour, markersize=4)
    axes.set(xlabel="standard deviation of the code", ylim=(0, 4), ylabel="nats")
    axes.legend(frameon=False)
    return figure


def paths() -> Figure:
    """The coefficients of a linear model over the strength of both penalties."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    inputs[:, 3] = 0.7 * inputs[:, 0] + 0.5 * inputs[:, 3]  # of no use beside the first, and like it
    truth = torch.tensor([2.0, -1.5, 0.8, 0.0, 0.0, 0.0]).double()
    targets = (inputs @ truth)[:, None] + 0.5 * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    strengths = 10 ** between(-2, 1, 25)
    figure, places = panels("l1_penalty", "l2_penalty")
    for axes, fit in zip(places, (fitted_l1, fitted_l2), strict=True):
        model = nn.Linear(6, 1, bias=False).double()
        nn.init.zeros_(model.weight)
        found = torch.stack([fit(model, inputs, targets, float(strength)) for strength in strengths])
        for index, values in enumerate(found.T):
            style, colour = ("-", f"C{index}") if truth[index] else ("--", GREY)
            label = f"{truth[index]:g}" if truth[index] or index == 3 else None
            axes.plot(strengths, values, style, color=colour, label=label)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(xscale="log", xlabel="strength", ylabel="coefficient")
    places[1].legend(frameon=False, title="true coefficient", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def overfitting() -> Figure:
    """A polynomial that learns twelve noisy points by heart, and the same one with a penalty."""
    generator = torch.Generator().manual_seed(5)

    def sampled(x: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
        return legendre(x, 11), (3 * x).sin()[:, None] + 0.35 * noise

    x, fresh, everywhere = (between(-end, end, size) for end, size in ((1, 12), (0.97, 60), (1, 200)))
    training, validation = sampled(x), sampled(fresh)
    steps = sorted({round(10 ** (exponent / 12)) for exponent in range(37)})
    figure, (left, right) = panels("fits after the last step", "mean squared error over the steps")
    left.plot(x, training[1], "o", color="black", markersize=4, label="training data")
    left.plot(everywhere, (3 * everywhere).sin(), color=GREY, linewidth=1, label="without noise")
    for strength, colour in ((0.0, ORANGE), (0.02, BLUE)):
        model = nn.Linear(12, 1, bias=False).double()
        nn.init.zeros_(model.weight)
        curves = torch.stack(
            [
                torch.stack([losses.create("mse")(model(part[0]), part[1]).detach() for part in (training, validation)])
                for _ in descended(model, training, strength, steps)
            ]
        )
        label = f"l2_penalty, strength={strength:g}" if strength else "no penalty"
        left.plot(everywhere, model(legendre(everywhere, 11)).detach(), color=colour, label=label)
        right.plot(steps, curves[:, 0], "--", color=colour, label=f"training, {label}")
        right.plot(steps, curves[:, 1], color=colour, label=f"validation, {label}")
        best = int(curves[:, 1].argmin())
        right.plot(steps[best], curves[best, 1], "o", color=colour, markersize=4 if strength else 7)
    right.set(xscale="log", xlabel="step", ylim=(0, 0.8))
    left.set(xlabel="input", ylabel="output", ylim=(-2.2, 3.2))
    left.legend(frameon=False, fontsize=7)
    right.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def likelihood() -> Figure:
    """The likelihood of seven heads in ten throws, its logarithm, and the loss: one and the same best probability."""
    probability = between(0.02, 0.98)
    throws = torch.tensor([1.0] * 7 + [0.0] * 3).double().expand(len(probability), -1)
    logits = probability.logit()[:, None].expand_as(throws)
    loss = losses.BinaryCrossEntropyLoss(reduction="none")(logits, throws)
    chosen = {
        "likelihood: maximise": (-loss.sum(1)).exp(),
        "log-likelihood: maximise": -loss.sum(1),
        "binary_cross_entropy: minimise": loss.mean(1),
    }
    figure, places = panels(*chosen, width=3.0, height=2.2)
    for axes, values in zip(places, chosen.values(), strict=True):
        axes.plot(probability, values, color=BLUE)
        axes.axvline(0.7, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlabel("probability of heads")
    return figure


def panels(*titles: str, width: float = 3.9, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, side by side."""
    figure = Figure(figsize=(width * len(titles), height), layout="constrained")
    places = list(figure.subplots(1, len(titles), squeeze=False).flat)
    for axes, title in zip(places, titles, strict=True):
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, places


def between(first: float, last: float, size: int = 241) -> Tensor:
    """Return numbers in equal steps, on all processors the same, which those of ``torch.linspace`` are not."""
    return first + (last - first) * (torch.arange(size).double() / (size - 1))


def with_slope(loss: Loss, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value of a loss and its gradient by the output."""
    output = output.clone().requires_grad_()
    value = loss(output, target)
    (slope,) = torch.autograd.grad(value.sum(), output)
    return value.detach(), slope


def broken(slope: Tensor) -> Tensor:
    """Return a derivative with a gap in its curve where it jumps."""
    slope = slope.clone()
    for before, after in pairwise(range(len(slope))):
        if abs(slope[after] - slope[before]) > 0.4:
            slope[after] = torch.nan
    return slope


def normal(x: Tensor, mean: float, deviation: float) -> Tensor:
    """Return the density of a normal distribution, up to its factor."""
    return (-((x - mean) / deviation).square() / 2).exp()


def legendre(x: Tensor, degree: int) -> Tensor:
    """Return the Legendre polynomials up to a degree, one in each column."""
    return torch.stack([torch.special.legendre_polynomial_p(x, n) for n in range(degree + 1)], 1)


PICTURES: dict[str, Callable[[], Figure]] = {
    figure_of.__name__: figure_of
    for figure_of in (
        descent, surrogates, probabilities, residuals, embeddings, directions, moving, codes, paths, overfitting,
        likelihood,
    )
}  # fmt: skip


def picture_path(name: str) -> Path:
    """Return where the page looks for a picture."""
    return FOLDER / f"{name}.svg"


def picture(name: str) -> str:
    """Return a picture as SVG, the same whenever it is drawn."""
    return svg(PICTURES[name])
