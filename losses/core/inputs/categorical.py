"""The kind of input of losses that look at one distribution over outcomes and compare it with nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

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
from losses.core.inputs.kind import Asked, Batch, Form, Kind, filled, normal
from losses.core.parameters import DistributionForm
from losses.core.reduction import expanded, hides_nothing


class Categorical(Kind):
    """A distribution over K outcomes in the form that the loss declares, without a target."""

    name, returns, takes_target = "CATEGORICAL", "logits", False
    output_text, target_text = "logits, log-probabilities or probabilities (..., K)", "None"
    asks: ClassVar[Mapping[str, Asked]] = {"output_form": Asked("what the output holds", "logits", FORMS)}

    def form(self, loss: Any) -> DistributionForm:
        """Return what the output of a loss holds."""
        form: DistributionForm = self.ask(loss, "output_form")
        return form

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if target is not None:
            raise InputError(
                f"{loss.spec.name} looks at the output alone: leave the target out, or pass None, got "
                f"{check.shown(target)}; what compares with a target is another loss, such as 'cross_entropy' or "
                "'kl_divergence'"
            )
        if not isinstance(output, Tensor):
            check.require_tensor(output=output)
        require_outcomes(output)
        if not output.dtype.is_floating_point:
            check.require_floating(output=output)
        return Batch(widened_in_form(output, self.form(loss)), None)

    def inspect(self, loss: Any, output: Tensor, target: None) -> None:
        require_form("output", output, self.form(loss))

    def mask(self, loss: Any, output: Tensor, target: None, weight: Tensor) -> Batch:
        weight = expanded(weight, output.shape[:-1])
        if hides_nothing(weight):
            return Batch(output, None)
        return Batch(uniform_where_masked(output, weight, self.form(loss)), None)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        size, form = batch.output.shape[-1], self.form(loss)
        places = torch.arange(len(batch.output)) % size
        here, there = (one_hot(places + shift, size + 1).double() for shift in (0, 1))
        halves = Batch(from_probs((here + there) / 2, form), None)
        return {
            "equal_points": [Batch(in_form(torch.zeros_like(batch.output), form), None)],
            "one_hot_and_disjoint": [Batch(from_probs(here, form), None), halves],
            "extreme_values": [
                Batch(in_form(filled(batch.output, value) * ramp(size), form), None) for value in (1e4, -1e4)
            ],
            "infinite_logits": [halves],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        form = self.form(loss)
        logits = as_logits(batch.output, form)
        # probabilities stay above 0, as their edge is another matter
        factors = (
            {"flat": 0.01, "sharp": 10, "logits times 1000": 1000} if form == "logits" else {"flat": 0.01, "sharp": 3}
        )
        return {name: Batch(in_form(logits * by, form), None) for name, by in factors.items()}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(in_form(normal(generator, size, 5), self.form(loss)).detach().requires_grad_(), None)

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_rows(batch)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        own = self.form(loss)
        logits = as_logits(batch.output, own)

        def said(form: str) -> Form:
            return Form(Batch(in_form(logits, form), None), {"output_form": form})

        return {"forms": [said(own)._replace(parameters={}), *(said(form) for form in FORMS if form != own)]}
