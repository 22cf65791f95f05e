"""Kinds of input of regressions that predict more than a mean: quantiles, a Gaussian, the rate of counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import INTEGERS, REGIMES, Asked, Batch, Form, Kind, filled, in_plain_tuple, normal, retyped
from losses.core.inputs.predictions import Pointwise, shapes_of_elements
from losses.core.outputs import Gaussian
from losses.core.precision import matched, widened
from losses.core.reduction import expanded, hides_nothing


class QuantilesInput(Pointwise):
    """One number predicted for each number wanted, or several, one for each quantile of it."""

    name = "QUANTILES"
    output_text, target_text = "prediction (*), or (*, Q) of Q quantiles", "(*)"
    asks: ClassVar[Mapping[str, Asked]] = {
        "quantile": Asked(
            "the quantile, or a list of those that the last dimension of the prediction holds",
            0.5,
            types=(float, Tensor, Sequence),
        )
    }

    def several(self, loss: Any) -> int | None:
        """Return how many quantiles of each number are predicted; ``None`` of a loss of one, which has no dimension of
        its own."""
        quantile = self.ask(loss, "quantile")
        return None if isinstance(quantile, float) else len(quantile)

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        count = self.several(loss)
        if count is None:
            return super().accept(loss, output, target)
        check.require_tensor(prediction=output, target=target)
        if output.shape != (*target.shape, count):
            raise InputError(
                f"prediction must hold {count} quantiles of every target in a last dimension, "
                f"{(*target.shape, count)} for a target of shape {tuple(target.shape)}, got {check.shown(output)}; "
                "give the last layer as many outputs, or the loss as many quantiles"
            )
        return super().accept(loss, output, target.unsqueeze(-1).expand(output.shape))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        return {
            name: [Batch(self._spread(loss, output), target) for output, target in edge]
            for name, edge in super().edges(loss, batch).items()
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        if self.several(loss) is None:
            return super().regimes(loss, batch)
        made = super().regimes(loss, Batch(batch.output, self._spread(loss, batch.target)))
        return {name: Batch(output, target[..., 0]) for name, (output, target) in made.items()}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        count = self.several(loss)
        if count is None:
            return super().draw(loss, size, generator)
        return Batch(normal(generator, size, 3, count), normal(generator, size, 3).detach())

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        if self.several(loss) is None:
            return super().shapes(loss, batch)
        (output, target), one = batch, Batch(*(part[:1, 0] for part in batch))
        return {
            "many": [Form(batch), Form(Batch(output.flatten(0, 1), target.flatten()))],
            "one alone": [Form(one), Form(Batch(*(part.squeeze(0) for part in one)))],
        }

    def _spread(self, loss: Any, target: Tensor) -> Tensor:
        """Return a target as the prediction that holds it for every quantile."""
        count = self.several(loss)
        return target if count is None else target.unsqueeze(-1).expand(*target.shape, count).contiguous()


class GaussianInput(Kind):
    """A mean and the logarithm of a variance for each number wanted."""

    name, returns, container = "GAUSSIAN", "gaussian", Gaussian
    output_text, target_text = "Gaussian(mean (*), log_variance (*))", "(*), the same shape"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        mean, log_variance = Gaussian(*output)
        check.require_tensor(mean=mean, log_variance=log_variance, target=target)
        check.require_same_shape(mean=mean, log_variance=log_variance, target=target)
        check.require_floating(mean=mean, log_variance=log_variance, target=target)
        # both are widened by the loss, which bounds an exp by what the dtypes of the gradients can hold
        return Batch(Gaussian(mean, log_variance), matched(target, widened(mean)))

    def inspect(self, loss: Any, output: Gaussian, target: Tensor) -> None:
        check.require_finite(**output._asdict(), target=target)

    def mask(self, loss: Any, output: Gaussian, target: Tensor, weight: Tensor) -> Batch:
        weight = expanded(weight, target.shape)
        if hides_nothing(weight):
            return Batch(output, target)
        return Batch(
            Gaussian(*(part.masked_fill(weight == 0, 0) for part in output)), target.masked_fill(weight == 0, 0)
        )

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        (mean, log_variance), target = batch
        zeros = torch.zeros_like(log_variance)
        return {
            "equal_points": [Batch(Gaussian(target, each), target) for each in (zeros, log_variance)],
            "near_duplicates": [Batch(Gaussian(target + 1e-4, log_variance), target)],
            "extreme_values": [
                Batch(Gaussian(filled(mean, 1e4), log_variance), target),
                Batch(Gaussian(filled(mean, 1e4), filled(log_variance, 1e4)), target),
            ],
            "extreme_log_variance": [
                Batch(Gaussian(each, filled(log_variance, sign)), target) for each in (mean, target) for sign in SIDES
            ],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        (mean, log_variance), target = batch
        wider = {"times 100": 2 * math.log(1e2), "times 10,000": 2 * math.log(1e4)}  # the variance of larger numbers
        return {
            **{
                name: Batch(Gaussian(way(mean), log_variance.clamp(-6, 6) + wider.get(name, 0)), way(target))
                for name, way in REGIMES.items()
            },
            "1000 away from 0": Batch(Gaussian(mean + 1e3, log_variance), target + 1e3),
            "variances at integers": Batch(Gaussian(mean, log_variance.round()), target),
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        mean, log_variance = normal(generator, size, 3), normal(generator, size, 3)
        return Batch(Gaussian(mean, log_variance), normal(generator, size, 3).detach())

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        mean, log_variance = (shapes_of_elements(Batch(part, batch.target)) for part in batch.output)
        return {
            name: [
                Form(Batch(Gaussian(one.batch.output, other.batch.output), one.batch.target), one.parameters)
                for one, other in zip(mean[name], log_variance[name], strict=True)
            ]
            for name in mean
        }

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return in_plain_tuple(batch)

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        return [batch, Batch(batch.output, batch.target + 1e-3)]


SIDES = (1e4, -1e4)


class Counts(Kind):
    """The logarithm of a rate for each count."""

    name, returns = "COUNTS", "prediction"
    output_text, target_text = "log-rates (*)", "counts of at least 0 of the same shape; integers count"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        check.require_tensor(log_rates=output, target=target)
        check.require_same_shape(log_rates=output, target=target)
        check.require_floating(log_rates=output)
        check.require_real(target=target)
        # the log-rate is widened by the loss, which bounds its exp by what the dtype of its gradient can hold
        return Batch(output, matched(target, widened(output)))

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        check.require_finite(log_rates=output, target=target)
        if bool((target < 0).any()):
            raise InputError(
                f"target must hold counts of at least 0, got {target[target < 0][0].item():g}; for numbers below 0 "
                "choose another loss, such as 'mse' or 'gaussian_nll'"
            )

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        log_rates, target = batch
        zeros = torch.zeros_like(target)
        return {
            "equal_points": [Batch(torch.ones_like(target).log(), torch.ones_like(target))],
            "zero_counts": [Batch(log_rates, zeros)],
            "extreme_values": [
                Batch(filled(log_rates, 1e4), each) for each in (target, zeros, torch.full_like(target, 1e4))
            ],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        log_rates, target = batch
        # the rate is exp of what is changed here, so it goes less far
        return {name: Batch(way(log_rates).clamp(-8, 8), way(target).round()) for name, way in REGIMES.items()}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        counts = torch.poisson(torch.full((size, 3), 2.0, dtype=torch.float64), generator=generator)
        return Batch(normal(generator, size, 3), counts)

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_elements(batch)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"counts": retyped(batch, *INTEGERS, torch.float32, torch.float16)}
