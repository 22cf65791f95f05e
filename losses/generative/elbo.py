"""Negative evidence lower bound: the loss of a variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Never

import torch
from torch import Tensor

from losses.extend import (
    BINARY,
    NON_NEGATIVE,
    POINTWISE,
    VAE_OUTPUT,
    ConfigError,
    Count,
    ElementwiseLoss,
    Fits,
    Loss,
    NestedLoss,
    NonNegative,
    Problem,
    Reduction,
    Schedule,
    ScheduledNonNegative,
    Total,
    VAEOutput,
    checked,
    register,
    total_of,
    value_at,
    widened,
)
from losses.ops.eager import may_read, on_cpu
from losses.ops.elementwise.gaussian import elbo_mean, gaussian_kl_sum, stacked_gaussian_kl
from losses.ops.elementwise.stacked import StackedBatch, suits_stack
from losses.ops.numerics.exponential import exp_and_tangent, largest_exponent
from losses.ops.tiles.sizes import sizes


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(0, 1)) of every latent dimension; see :class:`ELBOLoss`."""
    largest = largest_exponent(log_variance.dtype)  # of the dtype that the gradient has to fit into
    log_variance = widened(log_variance)
    variance = exp_and_tangent(log_variance, largest)
    return (variance + mean.square() - 1 - log_variance) / 2


@register(
    "elbo",
    aliases=("vae",),
    inputs=VAE_OUTPUT,
    laws=(NON_NEGATIVE,),
    suits="variational autoencoders",
    fits=Fits(task=("generation",)),
    source="D. P. Kingma, M. Welling, Auto-Encoding Variational Bayes, 2014, arXiv:1312.6114; "
    "beta: I. Higgins et al., ICLR 2017; free bits: D. P. Kingma et al., 2016, arXiv:1606.04934; "
    "capacity: C. P. Burgess et al., 2018, arXiv:1804.03599",
)
class ELBOLoss(Loss):
    r"""What it costs to describe the data: what the reconstruction misses, and what the latent code says.

    .. math::
        \ell = \underbrace{\textstyle\sum_e r(\hat x_e, x_e)}_{\text{reconstruction}}
             + \beta\, \Big|\sum_j \max\big(\lambda,\ \tfrac12 (\sigma_j^2 + \mu_j^2 - 1 - \log \sigma_j^2)\big) -
             C\Big|

    :math:`x` is the data, with elements :math:`e`, and :math:`\hat x` its reconstruction; :math:`\mu_j` and
    :math:`\sigma_j^2` are mean and variance of the latent dimension :math:`j`. Both parts are **summed over the event
    and averaged over the batch**, so that :math:`\beta = 1` is the bound itself. A log-variance above 71 (in float16,
    whose largest number is 65504, above 8.9) goes on along the tangent of exp, so that value and gradient are finite
    for any input.

    Args:
        reconstruction: :math:`r`, any pointwise loss. ``binary_cross_entropy`` takes the reconstruction as logits;
            ``mse`` is a Gaussian of variance 1/2, up to a constant.
        beta: :math:`\beta`, weight of the divergence: a number, or a schedule such as ``{"schedule": "cyclical",
            "period": 1000}`` of numbers that change with the calls in training mode.
        free_bits: :math:`\lambda`, nats per latent dimension and sample that cost nothing to use more of.
        capacity: :math:`C`, nats that the divergence is held at; ``None`` is the plain divergence.
        warmup_steps: calls in training mode over which beta rises linearly from 0, in place of a schedule. The progress
            is a buffer, so it survives a checkpoint; in evaluation mode it stands still, and beta counts in full, or
            as its schedule ends.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample.

    Shapes:
        output: ``VAEOutput(reconstruction (N, ...), mean (N, ...), log_variance (N, ...))``; target: the data, in the
        shape of the reconstruction. Returns ``()``, or ``(N,)`` if nothing is reduced.

    Units:
        Nats, if the reconstruction loss is a negative log-likelihood in nats.

    Raises:
        ConfigError: a parameter is outside its range, or ``reconstruction`` is not a pointwise loss.
        InputError: the tensors do not fit together.

    >>> output = VAEOutput(reconstruction=tensor([[0.0, 0.0]]), mean=tensor([[2.0]]), log_variance=tensor([[0.0]]))
    >>> ELBOLoss()(output, tensor([[1.0, 0.0]]))  # 2 log 2 + 2**2 / 2
    tensor(3.3863)
    """

    progress: Tensor

    @checked
    def __init__(
        self,
        *,
        reconstruction: NestedLoss = "binary_cross_entropy",
        beta: ScheduledNonNegative = 1.0,
        free_bits: NonNegative = 0.0,
        capacity: NonNegative | None = None,
        warmup_steps: Count = 0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        assert isinstance(reconstruction, Loss)  # built from its configuration by @checked
        if not set(reconstruction.inputs) & {POINTWISE, BINARY}:
            name = reconstruction.spec.name
            raise ConfigError(
                Problem(
                    ("reconstruction",),
                    f"got {name!r}, expected a pointwise loss such as 'binary_cross_entropy' or 'mse'",
                )
            )
        if reconstruction.reduction != "mean":
            message = f"got {reconstruction.reduction!r}; set reduction on the ELBO, which sums over the event itself"
            raise ConfigError(Problem(("reconstruction", "reduction"), message))
        if warmup_steps and isinstance(beta, Schedule):
            message = (
                f"got {warmup_steps} beside a beta with a schedule, which says how it rises; leave one of them out"
            )
            raise ConfigError(Problem(("warmup_steps",), message))
        assert isinstance(beta, float | Schedule)  # read from its configuration by @checked
        self.reconstruction = reconstruction
        self.beta = beta
        self.free_bits = free_bits
        self.capacity = capacity
        self.warmup_steps = warmup_steps
        self.register_buffer("progress", torch.zeros((), dtype=torch.long))
        self.remembers = bool(warmup_steps) or isinstance(beta, Schedule)
        self.reduction = reduction

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        reconstruction, divergence = self._parts(output, target)
        return reconstruction + self._beta(divergence) * divergence

    def fast_total(self, output: VAEOutput, target: Tensor, weight: Tensor | None) -> Total:
        """Return the total without an item of the reconstruction for every element."""
        reconstruction = self.reconstruction._total(output.reconstruction, target, weight).sum
        divergence = self._plain_divergence(output, weight)
        if divergence is None:
            divergence = total_of(self._divergence(output), weight)
        beta = self._beta(divergence.sum)
        if isinstance(beta, float):
            return Total(torch.add(reconstruction, divergence.sum, alpha=beta), divergence.denominator)
        return Total(reconstruction + beta * divergence.sum, divergence.denominator)

    def fast_mean(self, output: VAEOutput, target: Tensor) -> Tensor | None:
        return self._mean_at_once(output, target, None)

    def fast_weighted_mean(self, output: VAEOutput, target: Tensor, weight: Tensor) -> Tensor | None:
        mean = self._mean_at_once(output, target, weight)
        if mean is not None:
            return mean
        if self._stacked_divergence(output, weight) is None:
            return None
        relative = weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return self.fast_total(output, target, relative).sum

    def hides_by_itself(self, output: VAEOutput, target: Tensor, weight: Tensor) -> bool:
        if self.reduction == "none" or self._stacked_divergence(output, weight) is None:
            return False
        return self.reconstruction.hides_by_itself(output.reconstruction, target, weight)

    def _mean_at_once(self, output: VAEOutput, target: Tensor, weight: Tensor | None) -> Tensor | None:
        """Return the mean made together with its gradients, where it is just the sum over all elements and dimensions
        on a CPU."""
        if not may_read(output.mean) or self.free_bits or self.capacity is not None:
            return None
        beta, nested = self.beta, self.reconstruction
        if not isinstance(beta, float) or (self.training and self.warmup_steps):
            return None
        if output.reconstruction.numel() < min(sizes().in_one_piece, sizes().in_blocks_fused_long):
            return self._mean_of_few(output, target, beta) if weight is None and len(output.mean) else None
        formula = nested.block_formula() if isinstance(nested, ElementwiseLoss) and nested.sums_elements else None
        if formula is None:
            return None

        def definition(*leaves: Tensor) -> Tensor:
            return total_of(self.items(VAEOutput(*leaves), target), weight).mean()

        reconstruction, mean, log_variance = output
        return elbo_mean(formula, definition, reconstruction, target, mean, log_variance, weight, beta=beta)

    def _mean_of_few(self, output: VAEOutput, target: Tensor, beta: float) -> Tensor | None:
        """Return the mean where torch sums up what is reconstructed wrongly, with the gradient of the rest by hand."""
        missed = self.reconstruction._total(output.reconstruction, target, None).sum
        number = float(len(output.mean))
        return gaussian_kl_sum(gaussian_kl, output.mean, output.log_variance, beside=missed, beta=beta, divisor=number)

    def _plain_divergence(self, output: VAEOutput, weight: Tensor | None) -> Total | None:
        """Return the divergence of a batch, before beta, where it is just the sum over all dimensions."""
        stacked = self._stacked_divergence(output, weight)
        if stacked is not None:
            return Total(stacked.total().sum, len(output.mean) if weight is None else weight.sum())
        if weight is not None or self.free_bits or self.capacity is not None:
            return None
        total = gaussian_kl_sum(gaussian_kl, output.mean, output.log_variance)
        return None if total is None else Total(total, len(output.mean))

    def _stacked_divergence(self, output: VAEOutput, weight: Tensor | None) -> StackedBatch | None:
        """Return what sums likewise where every operation is a launch."""
        if on_cpu(output.mean):
            return None
        no_target = output.mean.detach()
        if self.free_bits or self.capacity is not None or (weight is not None and weight.ndim != 1):
            return None
        if not suits_stack(output.mean, output.log_variance, no_target, weight, outputs=2):
            return None
        stacked = partial(stacked_gaussian_kl, largest=largest_exponent(output.log_variance.dtype))
        return StackedBatch(stacked, lambda *batch: gaussian_kl(*batch[:2]), output[1:], no_target, weight)

    @torch.no_grad()
    def terms(self, output: VAEOutput, target: Tensor) -> Mapping[str, Tensor]:
        """Return the mean ``reconstruction`` and ``divergence`` (before beta) of a batch, detached, for logging."""
        reconstruction, divergence = self._on_accepted(self._parts, output, target)
        return {"reconstruction": total_of(reconstruction).mean(), "divergence": total_of(divergence).mean()}

    def _reduced(self, *batch: Any) -> Tensor:
        value = super()._reduced(*batch)
        self._advance()
        return value

    def total(self, output: Any, target: Any = None, *surplus: Never, weight: Tensor | None = None) -> Total:
        total = super().total(output, target, *surplus, weight=weight)
        self._advance()
        return total

    def _advance(self) -> None:
        if self.training and (self.warmup_steps or isinstance(self.beta, Schedule)):
            self.progress += 1

    def _beta(self, divergence: Tensor) -> Tensor | float:
        """Return the weight of a divergence, in its dtype."""
        if isinstance(self.beta, Schedule):
            beta = value_at(self.beta, self.progress if self.training else None)
            return beta.to(divergence.dtype) if isinstance(beta, Tensor) else beta
        if not (self.training and self.warmup_steps):
            return self.beta
        return self.beta * (self.progress / self.warmup_steps).clamp(max=1)

    def _parts(self, output: VAEOutput, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return reconstruction and divergence of every sample."""
        missed = self.reconstruction.items(output.reconstruction, target)
        return over_event(missed), self._divergence(output)

    def _divergence(self, output: VAEOutput) -> Tensor:
        """Return the divergence of every sample, before beta."""
        divergence = over_event(gaussian_kl(output.mean, output.log_variance).clamp(min=self.free_bits))
        return divergence if self.capacity is None else (divergence - self.capacity).abs()


def over_event(values: Tensor) -> Tensor:
    """Return the sum over everything but the batch."""
    return values.flatten(1).sum(1) if values.ndim > 1 else values
