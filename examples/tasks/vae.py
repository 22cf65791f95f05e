"""Generative modelling of handwritten digits: how surprised is the model by images that it has not seen?"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from networks import Autoencoder
from pictures import draw_reconstructions
from settings import Size
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from losses import VAEOutput
from losses.core.inputs import VAE_OUTPUT
from tasks.task import Metrics, Samples, SplitTask

COLUMNS = 12  # shown in the picture


class DigitImages(SplitTask):
    """The 8 x 8 images that ship with scikit-learn; a pixel is the probability of ink, what a network decodes are its
    logits.

    The metrics are in nats per image, as an ELBO with a Bernoulli reconstruction defines them, whatever loss was
    trained with.
    """

    question = "How surprised is a model of handwritten digits by images that it has not seen? In nats."
    feeds = (VAE_OUTPUT,)
    better: ClassVar = {"-ELBO": "lower", "reconstruction": "lower", "KL": "lower"}
    picture = "samples.png"

    name: Literal["vae"]
    draws: Size = 10
    """How many draws from the posterior the metrics average over."""

    @cached_property
    def parts(self) -> dict[str, Samples]:
        digits = load_digits()
        images = torch.from_numpy(digits.images).float() / 16
        rows_of = self.parted(len(images), digits.target)
        return {part: Samples(images[rows], images[rows]) for part, rows in rows_of.items()}

    @torch.no_grad()
    def metrics(self, network: Autoencoder) -> Metrics:
        images = self.parts["testing"].inputs
        outputs: list[VAEOutput] = [network.eval()(images) for _ in range(self.draws)]
        reconstruction = sum(nats(output.reconstruction, images) for output in outputs) / self.draws
        posterior = Normal(outputs[0].mean, (outputs[0].log_variance / 2).exp())
        divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean().item()
        return {"-ELBO": reconstruction + divergence, "reconstruction": reconstruction, "KL": divergence}

    def references(self) -> dict[str, Metrics]:
        images = self.parts["testing"].inputs
        ink = self.parts["training"].inputs.mean(0).clamp(1e-4, 1 - 1e-4)  # some pixels are never inked in training
        return {"independent pixels": {"-ELBO": nats(ink.logit().expand_as(images), images)}}

    @torch.no_grad()
    def draw(self, network: Autoencoder, path: Path) -> None:
        images = self.parts["testing"].inputs[:COLUMNS]
        prior = torch.randn(COLUMNS, network.latent)
        draw_reconstructions(
            images, network.eval()(images).reconstruction.sigmoid(), network.decoder(prior).sigmoid(), path
        )


def nats(logits: Tensor, images: Tensor) -> float:
    """Return the mean cross-entropy of images under independent pixels with these logits."""
    return -Bernoulli(logits=logits, validate_args=False).log_prob(images).flatten(1).sum(1).mean().item()
