"""Generative: the evidence lower bound from torch.distributions, and by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    Normal,
)
from torch.distributions import kl_divergence as torch_kl

from losses import VAEOutput
from tests.oracles.case import Answer, OracleBatch, OracleCase, coin, normal, uniform, unreduced
from tests.oracles.classification.binary_cross_entropy import binary_loop, torch_binary


def vae(*event: int, latent: tuple[int, ...] = (2,), binary: bool = False) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        target = coin(random, 4, *event).double() if binary else uniform(random, 4, *event)
        return OracleBatch(
            VAEOutput(normal(random, 4, *event), normal(random, 4, *latent), normal(random, 4, *latent)), target
        )

    return draw


def latent_kl(output: VAEOutput) -> Tensor:
    posterior = Normal(output.mean, (output.log_variance / 2).exp())
    prior = Normal(torch.zeros_like(output.mean), torch.ones_like(output.mean))
    return torch_kl(posterior, prior)


def elbo_items(
    reconstruction: Callable[..., Tensor], beta: float = 1.0, free_bits: float = 0.0, capacity: float | None = None
) -> Answer:
    def items(output: VAEOutput, target: Tensor) -> Tensor:
        values = []
        missed, divergence = reconstruction(output.reconstruction, target), latent_kl(output)
        for sample in range(len(target)):
            nats = sum(torch.clamp(kl, min=free_bits) for kl in divergence[sample].flatten())
            if capacity is not None:
                nats = torch.abs(nats - capacity)
            values.append(missed[sample].sum() + beta * nats)
        return torch.stack(values)

    return items


def kl_by_quadrature(output: VAEOutput, target: Tensor) -> Tensor:
    """Integrate q log(q / p) over the latent line, and add the negative log-likelihood of Bernoulli pixels."""
    values = []
    for sample, (mean, log_variance) in enumerate(zip(output.mean.tolist(), output.log_variance.tolist(), strict=True)):
        (mean,), deviation = mean, math.exp(log_variance[0] / 2)

        def integrand(z: float, mean: float = mean, deviation: float = deviation) -> float:
            log_q = -(((z - mean) / deviation) ** 2) / 2 - math.log(deviation)
            return math.exp(log_q) / math.sqrt(2 * math.pi) * (log_q + z**2 / 2)

        nats, _ = scipy.integrate.quad(
            integrand, mean - 12 * deviation, mean + 12 * deviation, epsabs=1e-12, epsrel=1e-12
        )
        pixels = scipy.special.expit(output.reconstruction[sample].detach().numpy())
        values.append(nats - scipy.stats.bernoulli.logpmf(target[sample].numpy(), pixels).sum())
    return torch.tensor(values, dtype=torch.float64)


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    return -Bernoulli(logits=logits).log_prob(target)


BCE_ITEMS, MSE_ITEMS = torch_binary(), unreduced(F.mse_loss)
ELBO = [
    OracleCase("torch_distributions", vae(3, binary=True), items=elbo_items(log_likelihood)),
    OracleCase("probabilities", vae(3), items=elbo_items(BCE_ITEMS)),
    OracleCase("images", vae(1, 2, 3), items=elbo_items(BCE_ITEMS)),
    OracleCase("latent_of_one", vae(3, latent=()), items=elbo_items(BCE_ITEMS)),
    OracleCase("latent_image", vae(3, latent=(2, 2)), items=elbo_items(BCE_ITEMS)),
    OracleCase("quadrature", vae(3, latent=(1,), binary=True), items=kl_by_quadrature, differentiable=False),
    OracleCase("mse", vae(2, 2), {"reconstruction": "mse"}, items=elbo_items(MSE_ITEMS)),
    OracleCase(
        "gaussian_of_variance_half",
        vae(3),
        {"reconstruction": {"name": "mse"}},
        items=elbo_items(lambda r, x: -Normal(r, math.sqrt(0.5)).log_prob(x) - math.log(math.pi) / 2),
    ),
    OracleCase(
        "nested",
        vae(3),
        {"reconstruction": {"name": "huber", "delta": 0.3}, "beta": 2.0},
        items=elbo_items(unreduced(F.huber_loss, delta=0.3), beta=2.0),
    ),
    OracleCase(
        "nested_smoothing",
        vae(3),
        {"reconstruction": {"name": "binary_cross_entropy", "label_smoothing": 0.2}},
        items=elbo_items(binary_loop(0.2)),
    ),
    OracleCase("beta", vae(3), {"beta": 4.0}, items=elbo_items(BCE_ITEMS, beta=4.0)),
    OracleCase("beta_zero", vae(3), {"beta": 0.0}, items=elbo_items(BCE_ITEMS, beta=0.0)),
    OracleCase("free_bits", vae(3, latent=(4,)), {"free_bits": 0.4}, items=elbo_items(BCE_ITEMS, free_bits=0.4)),
    OracleCase("capacity", vae(3), {"capacity": 0.8}, items=elbo_items(BCE_ITEMS, capacity=0.8)),
    OracleCase(
        "everything",
        vae(3, latent=(4,)),
        {"reconstruction": "mse", "beta": 3.0, "free_bits": 0.4, "capacity": 2.0},
        items=elbo_items(MSE_ITEMS, 3.0, 0.4, 2.0),
    ),
    OracleCase("warmup_first_step", vae(3), {"warmup_steps": 4, "beta": 2.0}, items=elbo_items(BCE_ITEMS, beta=0.0)),
]
