"""One distribution per row over K outcomes, as logits, log-probabilities or probabilities: what is checked of it, and
what batches are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import Batch, Form, halved
from losses.core.outputs import map_tensors
from losses.core.parameters import DistributionForm
from losses.core.precision import widened, widened_probabilities

FORMS: tuple[DistributionForm, ...] = get_args(DistributionForm)


def require_outcomes(output: Tensor) -> None:
    """Raise unless there are distributions along the last dimension."""
    if output.ndim == 0 or output.shape[-1] == 0:
        raise InputError(
            f"output must be distributions along a last dimension (..., K) with K > 0, got {check.shown(output)}"
        )


def widened_in_form(values: Tensor, form: str) -> Tensor:
    """Return half precision as float32, probabilities with a gradient that their dtype can hold."""
    return widened_probabilities(values) if form == "probs" else widened(values)


def require_form(name: str, values: Tensor, form: str) -> None:
    """Read the values of distributions and raise unless they are what a parameter declares."""
    if form == "logits":
        check.require_logits(-1, **{name: values})
    else:
        check.require_no_nan(**{name: values})
    if form == "probs":
        check.require_distributions(-1, **{name: values})
    elif form == "log_probs":
        check.require_distributions(-1, **{f"{name}.exp()": values.exp()})
    elif check.looks_like_probabilities(values, -1):
        raise InputError(
            f"{name} is declared as logits but holds probabilities; declare {name}_form='probs' or remove the softmax"
        )


def uniform_where_masked(tensor: Tensor, weight: Tensor, form: str) -> Tensor:
    """Return the tensor with the uniform distribution, in its form, where the weight is 0."""
    size = tensor.shape[-1]
    constant = {"logits": 0.0, "probs": 1 / size, "log_probs": -math.log(size)}[form]
    return tensor.masked_fill((weight == 0).unsqueeze(-1), constant)


def in_form(logits: Tensor, form: str) -> Tensor:
    """Return logits in the form that a parameter declares."""
    if form == "logits":
        return logits
    return logits.softmax(-1) if form == "probs" else logits.log_softmax(-1)


def as_logits(values: Tensor, form: str) -> Tensor:
    """Return logits of distributions that are in a form, whatever its normalisation."""
    return values.log() if form == "probs" else values


def shapes_of_rows(batch: Batch) -> dict[str, list[Form]]:
    """Return the rows of a batch ``(N, K)`` in other shapes, and one of them alone."""

    def in_shapes(batch: Batch, *changes: Callable[[Tensor], Tensor]) -> list[Form]:
        return [Form(batch), *(Form(Batch(*(map_tensors(part, change) for part in batch))) for change in changes)]

    first = Batch(*(map_tensors(part, lambda tensor: tensor[:1]) for part in batch))
    return {
        "many": in_shapes(batch, halved, lambda tensor: tensor[None, :, None]),
        "one alone": in_shapes(first, lambda tensor: tensor[0]),
    }


def from_probs(probs: Tensor, form: str) -> Tensor:
    """Return probabilities in the form that a parameter declares; a probability of 0 is a logit of -inf."""
    return probs if form == "probs" else probs.log()


def ramp(size: int) -> Tensor:
    """Return 0 to 1 in equal steps, so that logits differ from outcome to outcome."""
    return torch.linspace(0, 1, size, dtype=torch.float64)
