"""Losses of classifiers against torch.nn and the lines one writes: one element at a time, and cross-entropy in every
form.

float32, forward and backward. Nothing is timed before its value and gradient were seen to be the peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import losses
from benchmarks.cases.elementwise import leaf, of_lines, of_torch, probabilities, rows, seeded, weighted
from benchmarks.harness.comparison.case import Batch, Case, Peer, itself, with_weight
from benchmarks.peers import lines

WHAT = "float32, one weight for each sample where there are weights"
SHAPE = "NxC"
SMALL, MIDDLE, LARGE = (128, 10), (4096, 1000), (1024, 32000)


def answers(size: int, device: str = "cpu") -> Batch:
    """Return logits and the probability of yes."""
    logits, target = torch.randn(2, size, generator=seeded())
    return Batch((leaf(logits, device),), (target.sigmoid().to(device),))


def sides(size: int, device: str = "cpu") -> Batch:
    """Return scores and the side of 0 that each should be on, -1 or 1."""
    scores, target = torch.randn(2, size, generator=seeded())
    return Batch((leaf(scores, device),), (target.sign().to(device),))


def decisions(size: int, device: str = "cpu") -> Batch:
    """Return logits and whether the answer is yes, as one in three is."""
    logits, target = torch.randn(2, size, generator=seeded())
    return Batch((leaf(logits, device),), ((target > 0.43).float().to(device),))


def masks(size: int, side: int, device: str = "cpu") -> Batch:
    """Return logits ``(N, S, S)`` and masks of 0 and 1."""
    logits, target = torch.randn(2, size, side, side, generator=seeded())
    return Batch((leaf(logits, device),), ((target > 0.43).float().to(device),))


def class_masks(size: int, count: int, side: int, device: str = "cpu") -> Batch:
    """Return logits ``(N, C, S, S)`` and class indices ``(N, S, S)``."""
    return classes(size, count, side, side, device)


def classes(size: int, count: int, *rest: int | str) -> Batch:
    """Return logits ``(N, C, ...)`` and class indices ``(N, ...)``."""
    *places, device = rest or ("cpu",)
    generator = seeded()
    logits = torch.randn(size, count, *places, generator=generator)
    labels = torch.randint(count, (size, *places), generator=generator)
    return Batch((leaf(logits, str(device)),), (labels.to(device),))


def ignored(*shape: int | str) -> Batch:
    """Return the same with every tenth position ignored, in random places."""
    leaves, (labels,) = classes(*shape)
    ignore = torch.rand(labels.shape, generator=seeded()).to(labels.device) < 0.1
    return Batch(leaves, (labels.masked_fill(ignore, -100),))


def with_class_weight(size: int, count: int, device: str = "cpu") -> Batch:
    """Return logits and class indices, and the weights of the classes for who takes them in the call."""
    leaves, (labels,) = classes(size, count, device)
    return Batch(leaves, (labels, torch.tensor(class_weight(count), device=device)))


def class_weight(count: int) -> list[float]:
    """Return weights of classes between 1/2 and 2, exact in every precision."""
    return [0.5 * (1 + label % 4) for label in range(count)]


def layers(size: int, features: int, count: int, device: str = "cpu") -> Batch:
    """Return the features of a linear layer, its weight and bias, and class indices."""
    generator = seeded()
    linear = (
        torch.randn(size, features, generator=generator),
        torch.randn(count, features, generator=generator) / features**0.5,
        torch.randn(count, generator=generator),
    )
    labels = torch.randint(count, (size,), generator=generator)
    return Batch(tuple(leaf(part, device) for part in linear), (labels.to(device),))


def with_ignored_half(*shape: int | str) -> Batch:
    """Return the same with every second position ignored, as prompts are where answers are learnt."""
    leaves, (labels,) = layers(*shape)  # type: ignore[arg-type]  # as the shape's numbers come
    return Batch(leaves, (labels.masked_fill((torch.arange(len(labels)) % 2 == 1).to(labels.device), -100),))


def on_layer(loss: losses.Loss, features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Call a loss with a linear layer in place of its logits."""
    return loss(losses.LinearLogits(features, weight, bias), labels)


def bytes_of_logits(size: int, features: int, count: int) -> float:
    return 16.0 * size * count


def of_layer(name: str, batch: Callable[..., Batch], *shape: int, **reach: float) -> Case:
    """Return the case of a cross-entropy on a linear layer at a shape."""
    peer = Peer("lines", partial(itself, lines.linear_cross_entropy), bytes_of_logits, formula=True)
    return Case(f"{name}-{'x'.join(map(str, shape))}", shape, "cross_entropy", batch, call=on_layer, peer=peer, **reach)


def without_last(loss: losses.Loss, *batch: Any) -> Tensor:
    """Call a loss that was told of the weights of classes when it was made."""
    return loss(*batch[:-1])


TORCH = of_torch(nn.CrossEntropyLoss)
SMOOTHING = {"label_smoothing": 0.1}
FORMS: dict[str, tuple[Peer, dict[str, Any]]] = {
    "ce": (TORCH, {"batch": classes}),
    "ce-soft": (TORCH, {"batch": probabilities}),
    "ce-smoothing": (of_torch(partial(nn.CrossEntropyLoss, **SMOOTHING)), {"batch": classes, "parameters": SMOOTHING}),
    "ce-class_weight": (
        of_lines(lines.class_weighted_cross_entropy, 24),
        {"batch": with_class_weight, "call": without_last},
    ),
    "ce-weighted": (
        of_lines(lines.weighted_cross_entropy, 24),
        {"batch": partial(weighted, classes), "call": with_weight},
    ),
    "ce-z_loss": (of_lines(lines.cross_entropy_with_z_loss), {"batch": classes, "parameters": {"z_loss": 1e-4}}),
    "ce-ignored": (TORCH, {"batch": ignored}),
}


def cross_entropy(form: str, shape: tuple[int, ...], faster: float | None = None, lighter: float | None = None) -> Case:
    """Return the case of a form of cross-entropy at a shape."""
    peer, made = FORMS[form]
    if form == "ce-class_weight":
        made = {**made, "parameters": {"class_weight": class_weight(shape[1])}}
    return Case(
        f"{form}-{'x'.join(map(str, shape))}",
        shape,
        "cross_entropy",
        **made,
        peer=peer,
        faster=faster,
        lighter=lighter,
    )


def at_three_sizes(form: str, middle: float | None) -> Iterator[Case]:
    """Yield the cases of a form, with what it must reach at the middle size."""
    for shape in (SMALL, MIDDLE, LARGE):
        yield cross_entropy(form, shape, middle if shape == MIDDLE else None)


def beside_lines(
    name: str,
    loss: str,
    batch: Callable[..., Batch],
    function: Callable[..., Tensor],
    *shapes: tuple[int, ...],
    **parameters: Any,
) -> Iterator[Case]:
    """Yield the cases of a loss beside the lines one writes for it, at some shapes."""
    for shape in shapes:
        peer = of_lines(function, 48)
        yield Case(f"{name}-{'x'.join(map(str, shape))}", shape, loss, batch, parameters=parameters, peer=peer)


MULTICLASS = {"form": "multiclass"}
BINARY = (of_torch(nn.BCEWithLogitsLoss), of_lines(lines.weighted_binary_cross_entropy))
HINGE = (of_lines(lines.hinge), of_lines(lines.weighted_hinge))


def ordered(size: int, count: int, device: str = "cpu") -> Batch:
    """Return logits of the thresholds between classes, and class indices."""
    (logits,), (labels,) = classes(size, count, device)
    return Batch((logits.detach()[:, 1:].contiguous().requires_grad_(),), (labels,))


def ordinal(size: int, count: int) -> tuple[Case, Case]:
    """Return the cases of ordered classes, without and with weights."""
    row = partial(Case, shape=(size, count), loss="ordinal")
    return (
        row(f"ordinal-{size}x{count}", batch=ordered, peer=of_lines(lines.ordinal), faster=0.9),
        row(
            f"ordinal-weighted-{size}x{count}",
            batch=partial(weighted, ordered),
            peer=of_lines(lines.weighted_ordinal),
            call=with_weight,
        ),
    )


CASES = (
    *rows("bce", "binary_cross_entropy", answers, BINARY, {"1e3": 0.9, "1e7": 1.5}),
    *rows("hinge", "hinge", sides, HINGE, {"1e3": 0.9, "1e6": 1.5, "1e7": 2.5}),
    cross_entropy("ce", SMALL, 0.9),
    cross_entropy("ce", (65536, 10), 3.0),
    cross_entropy("ce", MIDDLE, 2.8, 1 / 2),
    cross_entropy("ce", LARGE, 1.6, 1 / 2),
    *at_three_sizes("ce-class_weight", 1.5),
    *at_three_sizes("ce-soft", 1.3),
    *at_three_sizes("ce-weighted", 1.5),
    *at_three_sizes("ce-smoothing", 2.0),
    *at_three_sizes("ce-z_loss", None),
    cross_entropy("ce-ignored", (8, 21, 16, 16)),
    cross_entropy("ce-ignored", (8, 21, 128, 128), 1.2),
    cross_entropy("ce-ignored", (32, 21, 128, 128)),
    *ordinal(128, 5),
    *ordinal(65536, 10),
    of_layer("ce-linear", layers, 64, 64, 100),
    of_layer("ce-linear", layers, 512, 128, 4096),
    of_layer("ce-linear", layers, 1024, 256, 32768, faster=1.0, lighter=1 / 6),
    of_layer("ce-linear-ignored", with_ignored_half, 1024, 256, 32768),
    *beside_lines(
        "focal", "focal", decisions, lines.binary_focal, (1000,), (100_000,), (1_000_000,), gamma=2, alpha=0.25
    ),
    *beside_lines("focal-classes", "focal", classes, lines.focal, SMALL, (65536, 10), MIDDLE, **MULTICLASS),
    *beside_lines(
        "gce", "generalized_cross_entropy", classes, lines.generalized_cross_entropy, SMALL, (65536, 10), MIDDLE
    ),
    *beside_lines("crammer_singer", "multiclass_hinge", classes, lines.crammer_singer, SMALL, (65536, 10), MIDDLE),
    *beside_lines(
        "weston_watkins",
        "multiclass_hinge",
        classes,
        lines.weston_watkins,
        SMALL,
        (65536, 10),
        MIDDLE,
        form="weston_watkins",
    ),
    *beside_lines("dice", "dice", masks, lines.dice, (8, 10), (8, 128), (8, 512)),
    *beside_lines("dice-classes", "dice", class_masks, lines.dice_of_classes, (2, 4, 8), (8, 21, 128), **MULTICLASS),
    *beside_lines("tversky", "tversky", masks, lines.tversky, (8, 10), (8, 128), (8, 512), alpha=0.3, beta=0.7),
)
