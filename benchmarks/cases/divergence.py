"""Divergences between distributions, and the entropy of one, against the lines one writes with torch: from logits, and
of samples on a line.

float32, forward and backward. Nothing is timed before its value and gradient were seen to be the peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from benchmarks.cases.elementwise import leaf, of_lines, probabilities, seeded, weighted
from benchmarks.harness.comparison.case import Batch, Case, Shape, with_weight
from benchmarks.harness.equality import Value
from benchmarks.peers import lines

WHAT = "float32, one weight for each distribution where there are weights"
SHAPE = "NxK"
SMALL, MIDDLE, LARGE = (64, 10), (512, 1000), (1024, 32000)
Reach = Mapping[Shape, tuple[float | None, float | None]]


def one_distribution(size: int, count: int, device: str = "cpu") -> Batch:
    """Return logits, which nothing is compared with."""
    return Batch((leaf(torch.randn(size, count, generator=seeded()), device),), ())


def samples(size: int, count: int, device: str = "cpu") -> Batch:
    """Return samples of distributions, in no order."""
    output, target = torch.randn(2, size, count, generator=seeded())
    return Batch((leaf(output, device),), ((target + 0.5).to(device),))


def cases(
    name: str, loss: str, batch: Callable[..., Batch], values: tuple[Value, Value], bytes_each: float, reach: Reach
) -> Iterator[Case]:
    """Yield the cases of a divergence at every shape, without and with weights.

    Args:
        name: of the rows.
        loss: ours.
        batch: makes the batch from a shape and the device.
        values: the lines without and with weights.
        bytes_each: that those need for each number.
        reach: how much faster and lighter ours must be without weights, for every shape.
    """
    for shape, (faster, lighter) in reach.items():
        row = partial(Case, shape=shape, loss=loss)
        text = "x".join(map(str, shape))
        peers = [of_lines(value, bytes_each) for value in values]
        yield row(f"{name}-{text}", batch=batch, peer=peers[0], faster=faster, lighter=lighter)
        yield row(f"{name}-weighted-{text}", batch=partial(weighted, batch), call=with_weight, peer=peers[1])


CASES = (
    *cases(
        *("kl", "kl_divergence", probabilities),
        (lines.kl_divergence, lines.weighted_kl_divergence),
        bytes_each=40,
        reach={SMALL: (0.9, None), MIDDLE: (1.5, None), LARGE: (2.5, 1 / 4)},
    ),
    *cases(
        *("js", "js_divergence", probabilities),
        (lines.js_divergence, lines.weighted_js_divergence),
        bytes_each=60,
        reach={SMALL: (None, None), MIDDLE: (2.0, None), LARGE: (6.0, 1 / 4)},
    ),
    *cases(
        *("entropy", "entropy", one_distribution),
        (lines.entropy, lines.weighted_entropy),
        bytes_each=40,
        reach={SMALL: (None, None), MIDDLE: (1.0, None), LARGE: (1.5, 1 / 2)},
    ),
    Case(
        "entropy-categorical-512x1000",
        shape=MIDDLE,
        loss="entropy",
        batch=one_distribution,
        peer=of_lines(lines.categorical_entropy, 60),
        faster=1.0,
    ),
    *cases(
        *("wasserstein", "wasserstein", samples),
        (lines.wasserstein, lines.weighted_wasserstein),
        bytes_each=60,
        reach={(8, 100): (None, None), (64, 1000): (1.0, None), (64, 20000): (None, None)},
    ),
)
