"""Kinds of input between distributions: over outcomes, on a line, or as objects of ``torch.distributions``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.distribution_forms import (
    FORMS,
    as_logits,
    from_probs,
    in_form,
    ramp,
    require_form,
    require_outcomes,
    shapes_of_rows,
    uniform_where_masked,
    widened_in_form,
)
from losses.core.inputs.kind import REGIMES, Asked, Batch, Form, Kind, filled, normal
from losses.core.outputs import Samples
from losses.core.parameters import DistributionForm
from losses.core.precision import COMPUTED_IN, matched, widened
from losses.core.reduction import expanded, hides_nothing


class Distributions(Kind):
    """Two distributions over the same K outcomes, in the form that the loss's parameters declare."""

    name, returns = "DISTRIBUTIONS", "logits"
    output_text, target_text = "logits, log-probabilities or probabilities (..., K)", "likewise, the same shape"
    asks: ClassVar[Mapping[str, Asked]] = {
        "output_form": Asked("what the output holds", "logits", FORMS),
        "target_form": Asked("what the target holds", "probs", FORMS),
    }

    def forms(self, loss: Any) -> tuple[DistributionForm, DistributionForm]:
        """Return what output and target of a loss hold."""
        return self.ask(loss, "output_form"), self.ask(loss, "target_form")

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(output=output, target=target)
        require_outcomes(output)
        if output.shape != target.shape:
            check.require_same_shape(output=output, target=target)
        if not (output.dtype.is_floating_point and target.dtype.is_floating_point):
            check.require_floating(output=output, target=target)
        output_form, target_form = self.forms(loss)
        as_they_are = output.dtype is target.dtype and output.dtype in COMPUTED_IN
        if as_they_are and output_form != "probs" and not target.requires_grad:
            return output, target
        output = widened_in_form(output, output_form)
        return output, matched(widened_in_form(target, target_form), output)

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        output_form, target_form = self.forms(loss)
        require_form("output", output, output_form)
        require_form("target", target, target_form)

    def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        weight = expanded(weight, output.shape[:-1])
        if hides_nothing(weight):
            return Batch(output, target)
        output_form, target_form = self.forms(loss)
        return Batch(
            uniform_where_masked(output, weight, output_form), uniform_where_masked(target, weight, target_form)
        )

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        size = batch.target.shape[-1]
        output_form, target_form = self.forms(loss)
        here, there = (
            torch.nn.functional.one_hot(torch.arange(len(batch.target)) % size + shift, size + 1).double()
            for shift in (0, 1)
        )
        half = (here + there) / 2
        return {
            "equal_points": [Batch(from_probs(half, output_form), from_probs(half, target_form))],
            "one_hot_and_disjoint": [
                Batch(from_probs(one, output_form), from_probs(other, target_form))
                for one, other in ((here, there), (here, here), (half, here), (here, half))
            ],
            "extreme_values": [
                Batch(
                    in_form(filled(batch.output, 1e4) * ramp(size), output_form),
                    in_form(filled(batch.target, sign) * ramp(size), target_form),
                )
                for sign in (1e4, -1e4)
            ],
            "infinite_logits": [Batch(from_probs(half, output_form), from_probs(here, target_form))],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        return regimes_of_forms(batch, *self.forms(loss))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        output, target = (in_form(normal(generator, size, 5), form) for form in self.forms(loss))
        return Batch(output.detach().requires_grad_(), target.detach())

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_rows(batch)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        output_form, target_form = self.forms(loss)
        output, target = as_logits(batch.output, output_form), as_logits(batch.target, target_form)

        def said(output_as: str, target_as: str) -> Form:
            parameters = {"output_form": output_as, "target_form": target_as}
            return Form(Batch(in_form(output, output_as), in_form(target, target_as)), parameters)

        own = said(output_form, target_form)._replace(parameters={})
        return {
            "forms of the output": [own, *(said(form, target_form) for form in FORMS if form != output_form)],
            "forms of the target": [own, *(said(output_form, form) for form in FORMS if form != target_form)],
        }

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        _, form = self.forms(loss)
        return [batch, Batch(batch.output, in_form(1.01 * as_logits(batch.target, form), form))]


class DistributionObjects(Kind):
    """Two distributions of ``torch.distributions``."""

    name, returns = "DISTRIBUTION_OBJECTS", "distribution"
    output_text, target_text = "a torch.distributions.Distribution", "likewise"

    def claims(self, output: object) -> bool:
        return isinstance(output, Distribution)

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if not isinstance(target, Distribution):
            raise InputError(
                f"output is a {type(output).__name__}, so target must be a torch Distribution too, got "
                f"{check.shown(target)}"
            )
        if output.batch_shape != target.batch_shape or output.event_shape != target.event_shape:
            raise InputError(
                f"output has batch and event shape {tuple(output.batch_shape)}, {tuple(output.event_shape)} and target "
                f"{tuple(target.batch_shape)}, {tuple(target.event_shape)}; they must be the same (use .expand)"
            )
        return Batch(output, target)

    def inspect(self, loss: Any, output: Distribution, target: Distribution) -> None:
        for name, distribution in (("output", output), ("target", target)):
            for parameter in distribution.arg_constraints:
                value = getattr(distribution, parameter, None)
                if isinstance(value, Tensor):
                    check.require_no_nan(**{f"{name}.{parameter}": value})

    def mask(self, loss: Any, output: Distribution, target: Distribution, weight: Tensor) -> Batch:
        return Batch(output, target)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        one = torch.ones((), dtype=torch.float64)
        return Batch(*(Normal(normal(generator, size, 3), one) for _ in range(2)))


class Transport(Kind):
    """Two distributions on a line: samples, or histograms over the same support, as the loss's ``form`` declares."""

    name, returns = "TRANSPORT", "samples"
    output_text = "samples (..., N), Samples(points, weights) or histograms (..., K)"
    target_text = "samples (..., M) or likewise"
    asks: ClassVar[Mapping[str, Asked]] = {
        "form": Asked("what output and target hold", "samples", ("samples", "probs", "logits"))
    }

    def claims(self, output: object) -> bool:
        return isinstance(output, (Tensor, Samples)) or (type(output) is tuple and len(output) == 2)

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if self.ask(loss, "form") != "samples":
            check.require_tensor(output=output, target=target)
            check.require_same_shape(output=output, target=target)
        output, target = self._samples("output", output), self._samples("target", target)
        weights = None if target.weights is None else matched(target.weights, output.points)
        target = Samples(matched(target.points, output.points), weights)
        if 0 in (output.points.ndim, target.points.ndim) or output.points.shape[:-1] != target.points.shape[:-1]:
            raise InputError(
                f"output and target must hold one distribution per leading index along their last dimension, "
                f"got {check.shown(output.points)} and {check.shown(target.points)}; make the leading dimensions the "
                "same with .expand"
            )
        if 0 in (output.points.shape[-1], target.points.shape[-1]):
            raise InputError("a distribution needs at least one sample, got a last dimension of 0")
        return Batch(output, target)

    def inspect(self, loss: Any, output: Samples, target: Samples) -> None:
        form = self.ask(loss, "form")
        for name, samples in (("output", output), ("target", target)):
            if form == "logits":
                check.require_logits(-1, **{name: samples.points})
            else:
                check.require_finite(**{name: samples.points})
            if form == "probs":
                check.require_distributions(-1, **{name: samples.points})
            elif form == "logits" and check.looks_like_probabilities(samples.points, -1):
                raise InputError(
                    f"{name} is declared as logits but holds probabilities; declare form='probs' or remove the softmax"
                )
            elif samples.weights is not None:
                check.require_finite(**{f"{name}.weights": samples.weights})
                if bool((samples.weights < 0).any()) or bool((samples.weights.sum(-1) <= 0).any()):
                    raise InputError(f"{name}.weights must be at least 0 with a positive sum in every distribution")

    def mask(self, loss: Any, output: Samples, target: Samples, weight: Tensor) -> Batch:
        weight = expanded(weight, output.points.shape[:-1])
        if hides_nothing(weight):
            return Batch(output, target)
        form = self.ask(loss, "form")
        mask = partial(uniform_where_masked, weight=weight)
        return Batch(
            *(
                Samples(
                    mask(points, form="logits" if form == "samples" else form),
                    weights if weights is None else mask(weights, form="probs"),
                )
                for points, weights in (output, target)
            )
        )

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        output, target = batch
        form = self.ask(loss, "form")
        if form == "samples":
            return {
                "equal_points": [Batch(target, target), Batch(torch.zeros_like(output), torch.zeros_like(target))],
                "near_duplicates": [Batch(target + 1e-4, target)],
                "extreme_values": [
                    Batch(filled(output, 1e4), filled(target, -1e4)),
                    Batch(filled(output, 1e4), target),
                ],
            }
        size = target.shape[-1]
        here, there = (
            torch.nn.functional.one_hot(torch.arange(len(target)) % (size - 1) + shift, size).double()
            for shift in (0, 1)
        )
        return {
            "equal_points": [Batch(target, target)],
            "one_hot_and_disjoint": [
                Batch(from_probs(one, form), from_probs(other, form)) for one, other in ((here, there), (here, here))
            ],
            **({"extreme_values": [Batch(filled(output, 1e4) * ramp(size), target)]} if form == "logits" else {}),
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        form = self.ask(loss, "form")
        if form != "samples":
            return regimes_of_forms(batch, form, form)
        return {name: Batch(way(batch.output), way(batch.target)) for name, way in REGIMES.items()}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        form = self.ask(loss, "form")
        if form == "samples":
            return Batch(normal(generator, size, 5), normal(generator, size, 7).detach())
        output, target = (in_form(normal(generator, size, 5), form).detach() for _ in range(2))
        return Batch(output.requires_grad_(), target)

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_rows(batch)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        form = self.ask(loss, "form")
        if form == "samples":
            return self._encodings_of_samples(*batch)
        other = "logits" if form == "probs" else "probs"
        output, target = (as_logits(part, form) for part in batch)
        own, said = (Batch(in_form(output, each), in_form(target, each)) for each in (form, other))
        return {f"{other} for {form}": [Form(own), Form(said, {"form": other})]}

    def _encodings_of_samples(self, output: Tensor, target: Tensor) -> dict[str, list[Form]]:
        ones = torch.ones_like(output).detach()
        twice = torch.cat([output, output[..., :1]], -1)
        heavier = torch.cat([ones[..., :1] * 2, ones[..., 1:]], -1)
        alike = output, Samples(output), Samples(output, ones), (output, ones / 2)
        return {
            "equal weights": [Form(Batch(said, target)) for said in alike],
            "a sample that is there twice": [Form(Batch(twice, target)), Form(Batch(Samples(output, heavier), target))],
        }

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        form = self.ask(loss, "form")
        if form == "samples":
            return [batch, Batch(batch.output, batch.target + 1e-3)]
        return [batch, Batch(batch.output, in_form(1.01 * as_logits(batch.target, form), form))]

    def _samples(self, name: str, value: Any) -> Samples:
        if not isinstance(value, Tensor) and not (isinstance(value, tuple) and len(value) == 2):
            raise InputError(
                f"{name} must be a tensor of samples or Samples(points, weights), got {check.shown(value)}"
            )
        points, weights = (value, None) if isinstance(value, Tensor) else value
        check.require_tensor(**{name: points})
        check.require_floating(**{name: points})
        if weights is not None:
            check.require_tensor(**{f"{name}.weights": weights})
            check.require_floating(**{f"{name}.weights": weights})
            check.require_same_shape(**{f"{name}.points": points, f"{name}.weights": weights})
        return Samples(widened(points), None if weights is None else widened(weights))


def regimes_of_forms(batch: Batch, *forms: str) -> dict[str, Batch]:
    """Return distributions again, sharper and flatter; probabilities stay above 0, as their edge is another matter."""
    logits = [part.log() if form == "probs" else part for part, form in zip(batch, forms, strict=True)]
    sharp = [10 if form == "logits" else 3 for form in forms]
    factors = {
        "flat": (0.01, 0.01),
        "sharp": (sharp[0], sharp[1]),
        "sharp against flat": (sharp[0], 0.1),
        "flat against sharp": (0.1, sharp[1]),
        **({"logits times 1000": (1000, 1000)} if set(forms) == {"logits"} else {}),
    }
    return {
        name: Batch(*(in_form(part * by, form) for part, by, form in zip(logits, pair, forms, strict=True)))
        for name, pair in factors.items()
    }
