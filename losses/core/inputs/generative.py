"""Kinds of input of generative models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import (
    REGIMES,
    YES_OR_NO,
    Asked,
    Batch,
    Form,
    Kind,
    filled,
    in_plain_tuple,
    kind_for,
    masked,
    normal,
    retyped,
    uniform,
)
from losses.core.outputs import VAEOutput
from losses.core.precision import COMPUTED_IN, matched, widened
from losses.core.reduction import hides_nothing, require_weight_fits


class VAE(Kind):
    """A reconstruction with the mean and log-variance that it was sampled from, against the data."""

    name, returns, container = "VAE", "vae", VAEOutput
    output_text = "VAEOutput(reconstruction (N, ...), mean (N, D), log_variance (N, D))"
    target_text = "the data (N, ...)"
    asks: ClassVar[Mapping[str, Asked]] = {
        "reconstruction": Asked("the loss of the reconstruction against the data, if that is a loss of this package")
    }

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        vae = VAEOutput(*output)
        if is_usual(vae, target):
            return Batch(vae, target)
        check.require_tensor(**vae._asdict(), target=target)
        check.require_floating(**vae._asdict())
        check.require_real(target=target)
        check.require_same_shape(reconstruction=vae.reconstruction, target=target)
        check.require_same_shape(mean=vae.mean, log_variance=vae.log_variance)
        for name, part in vae._asdict().items():
            if part.ndim == 0:
                raise InputError(
                    f"{name} must have a batch dimension (N, ...), got a scalar; write {name}.unsqueeze(0)"
                )
        check.require_same_length(reconstruction=vae.reconstruction, mean=vae.mean)
        # the log-variance is widened by the loss, which bounds its exp by what the dtype of its gradient can hold
        wide = VAEOutput(widened(vae.reconstruction), widened(vae.mean), vae.log_variance)
        return Batch(wide, matched(target, wide.reconstruction))

    def inspect(self, loss: Any, output: VAEOutput, target: Tensor) -> None:
        check.require_finite(**output._asdict(), target=target)
        nested = self.ask(loss, "reconstruction")
        if isinstance(nested, nn.Module) and hasattr(getattr(nested, "spec", None), "inputs"):
            kind = kind_for(nested, output.reconstruction)
            if kind is not None:
                kind.inspect(nested, *kind.accept(nested, output.reconstruction, target))

    def mask(self, loss: Any, output: VAEOutput, target: Tensor, weight: Tensor) -> Batch:
        require_weight_fits(weight, target.shape[:1])
        if hides_nothing(weight):
            return Batch(output, target)
        return Batch(VAEOutput(*(masked(part, weight) for part in output)), masked(target, weight))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        (reconstruction, mean, log_variance), data = batch
        return {
            "equal_points": [Batch(VAEOutput(*map(torch.zeros_like, batch.output)), data)],
            "extreme_values": [Batch(VAEOutput(filled(reconstruction, 1e4), filled(mean, 1e2), log_variance), data)],
            "extreme_log_variance": [Batch(VAEOutput(reconstruction, mean, filled(log_variance, 1e4)), data)],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        (reconstruction, mean, log_variance), data = batch
        # the variance is exp of what is changed here, so it goes less far
        return {
            name: Batch(VAEOutput(way(reconstruction), way(mean), way(log_variance).clamp(-20, 20)), data)
            for name, way in REGIMES.items()
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        mean, log_variance = normal(generator, size, 2), normal(generator, size, 2)
        return Batch(VAEOutput(normal(generator, size, 3), mean, log_variance), uniform(generator, size, 3))

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        (reconstruction, mean, log_variance), data = batch

        def of_data(*shape: int) -> list[Form]:
            output = VAEOutput(reconstruction.reshape(-1, *shape), mean, log_variance)
            return [Form(batch), Form(Batch(output, data.reshape(-1, *shape)))]

        size = data[0].numel()
        return {"(N, C, 1)": of_data(size, 1), "(N, 1, H, W)": of_data(1, 1, size)}

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        black_or_white = Batch(batch.output, (batch.target > 0.5).to(torch.float64))
        return {"data of 0 and 1": retyped(black_or_white, *YES_OR_NO), **in_plain_tuple(batch)}

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        return [batch, Batch(batch.output, 0.99 * batch.target + 0.003)]


def is_usual(vae: VAEOutput, target: Any) -> bool:
    """Return whether a batch is all that is asked of it, and in one precision in which losses compute: one look in
    place of many."""
    first, mean, log_variance = vae
    if not (isinstance(first, Tensor) and isinstance(mean, Tensor) and isinstance(log_variance, Tensor)):
        return False
    if not isinstance(target, Tensor) or first.shape != target.shape or mean.shape != log_variance.shape:
        return False
    if not first.shape or first.shape[:1] != mean.shape[:1]:
        return False
    return first.dtype is target.dtype is mean.dtype is log_variance.dtype and first.dtype in COMPUTED_IN
