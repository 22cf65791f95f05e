"""The loss of a variational autoencoder against the lines one writes: a sum of cross-entropies and the closed form.

float32, forward and backward. Nothing is timed before its value and gradient were seen to be the peer's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

import losses
from benchmarks.cases.elementwise import leaf, of_lines, seeded, weighted
from benchmarks.harness.comparison.case import Batch, Case
from benchmarks.peers import lines

WHAT = "float32, one weight for each sample where there are weights"
SHAPE = "NxdataxD"
DATA, LATENT = 784, 32


def reconstructed(size: int, data: int, latent: int, device: str = "cpu") -> Batch:
    """Return logits of a reconstruction, mean and log-variance of the latent code, and the data between 0 and 1."""
    generator = seeded()
    logits, target = torch.randn(2, size, data, generator=generator)
    mean, log_variance = torch.randn(2, size, latent, generator=generator)
    leaves = tuple(leaf(numbers, device) for numbers in (logits, mean, log_variance))
    return Batch(leaves, (target.sigmoid().to(device),))


def as_output(loss: losses.Loss, *batch: Any) -> Tensor:
    """Call a loss with the output of an autoencoder, the data and perhaps weights."""
    output, data, *weight = losses.VAEOutput(*batch[:3]), *batch[3:]
    return loss(output, data, weight=weight[0] if weight else None)


def elbo(size: int, *, faster: float | None = None) -> tuple[Case, Case]:
    """Return the cases of a batch of so many samples, without and with weights."""
    row = partial(Case, shape=(size, DATA, LATENT), loss="elbo", call=as_output)
    return (
        row(f"elbo-{size}", batch=reconstructed, peer=of_lines(lines.elbo, 1), faster=faster),
        row(f"elbo-weighted-{size}", batch=partial(weighted, reconstructed), peer=of_lines(lines.weighted_elbo, 1)),
    )


CASES = (*elbo(64, faster=0.9), *elbo(512, faster=1.0), *elbo(8192))
