"""Kind of input of classifiers whose last layer is left to the loss: linear logits against classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import INTEGERS, REGIMES, Asked, Batch, Form, Kind, filled, halved, normal, retyped
from losses.core.inputs.predictions import require_classes
from losses.core.outputs import LinearLogits
from losses.core.precision import matched, widened
from losses.core.reduction import expanded, hides_nothing


class LinearInput(Kind):
    """The features of every position and the linear layer that makes logits of them, against class indices or
    probabilities."""

    name, returns, container = "LINEAR_LOGITS", "linear logits", LinearLogits
    output_text = "LinearLogits(features (N, ..., D), weight (C, D), bias (C,) or None)"
    target_text = "class indices (N, ...) or probabilities (N, ..., C)"
    asks: ClassVar[Mapping[str, Asked]] = {
        "ignore_index": Asked("the target of positions that do not count", types=(int, NoneType)),
        "class_weight": Asked("weights of classes: a mean over indices divides by those of the targets"),
    }

    def claims(self, output: object) -> bool:
        return isinstance(output, LinearLogits) or (type(output) is tuple and len(output) in (2, 3))

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        linear = output if isinstance(output, LinearLogits) else LinearLogits(*output)
        features, weight, bias = linear
        parts = {"features": features, "weight": weight} | ({} if bias is None else {"bias": bias})
        check.require_tensor(**parts, target=target)
        check.require_floating(**parts)
        check.require_same_device(**parts, target=target)
        require_fitting(features, weight, bias)
        accepted = LinearLogits(widened(features), widened(weight), None if bias is None else widened(bias))
        require_one_precision(accepted)
        return Batch(accepted, accepted_target(accepted, target))

    def inspect(self, loss: Any, output: LinearLogits, target: Tensor) -> None:
        check.require_finite(features=output.features, weight=output.weight)
        if output.bias is not None:
            check.require_logits(0, bias=output.bias)
        check.require_no_nan(target=target)
        if target.dtype.is_floating_point:
            check.require_distributions(-1, target=target)
        else:
            require_classes(target, output.classes, self.ask(loss, "ignore_index"))

    def mask(self, loss: Any, output: LinearLogits, target: Tensor, weight: Tensor) -> Batch:
        weight = expanded(weight, output.positions)
        if hides_nothing(weight):
            return Batch(output, target)
        absent = weight == 0
        if target.dtype.is_floating_point:
            target = target.masked_fill(absent.unsqueeze(-1), 1 / output.classes)
        else:
            target = target.masked_fill(absent, 0)
        return Batch(output._replace(features=output.features.masked_fill(absent.unsqueeze(-1), 0)), target)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        linear, labels = batch
        classes = linear.classes
        one_hot = torch.nn.functional.one_hot(labels, classes).to(linear.weight.dtype)
        impossible = linear._replace(bias=torch.where(torch.arange(classes) == 0, linear.bias, -torch.inf))
        edges = {
            "equal_points": [
                Batch(LinearLogits(*map(torch.zeros_like, linear)), target) for target in (labels, one_hot)
            ],
            "extreme_values": [
                Batch(linear._replace(features=filled(linear.features, 1e4)), target) for target in (labels, one_hot)
            ],
            "infinite_logits": [Batch(impossible, torch.zeros_like(labels))],
            "one_class": [Batch(linear, torch.zeros_like(labels))],
            "every_label_different": [
                Batch(linear._replace(features=linear.features[:classes]), torch.arange(classes))
            ],
            "one_hot_and_disjoint": [Batch(linear, one_hot)],
        }
        if (ignored := self.ask(loss, "ignore_index")) is not None:
            edges["everything_ignored"] = [Batch(linear, torch.full_like(labels, ignored))]
        return edges

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        linear, target = batch
        return {name: Batch(linear._replace(features=way(linear.features)), target) for name, way in REGIMES.items()}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        linear = LinearLogits(normal(generator, size, 3), normal(generator, 5, 3), normal(generator, 5))
        return Batch(linear, torch.randint(5, (size,), generator=generator))

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        linear, target = batch
        row = Batch(linear._replace(features=halved(linear.features)), halved(target))
        plane = Batch(row.output._replace(features=row.output.features.unsqueeze(0)), row.target.unsqueeze(0))
        return {"positions": [Form(batch), Form(row), Form(plane)]}

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        linear, target = batch
        indices = target.argmax(-1) if target.dtype.is_floating_point else target
        chosen = Batch(linear, indices)
        one_hot = torch.nn.functional.one_hot(indices, linear.classes).to(linear.features.dtype)
        said = {"one-hot probabilities": [Form(chosen), Form(Batch(linear, one_hot))]}
        without_bias = linear._replace(bias=torch.zeros_like(linear.bias))
        return {
            "indices": retyped(chosen, *INTEGERS),
            "a plain tuple": [Form(batch), Form(Batch(tuple(linear), target))],
            "no bias": [
                Form(Batch(without_bias, target)),
                Form(Batch(linear._replace(bias=None), target)),
                Form(Batch((linear.features, linear.weight), target)),
            ],
        } | (said if self.ask(loss, "class_weight") is None else {})

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        linear, target = batch
        indices = target.argmax(-1) if target.dtype.is_floating_point else target
        one_hot = torch.nn.functional.one_hot(indices, linear.classes).to(linear.features.dtype)
        return [Batch(linear, one_hot * (1 - s) + s / linear.classes) for s in (0.2, 0.21)]


def require_fitting(features: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless features, weight and bias are those of one linear layer."""
    if features.ndim < 2:
        raise InputError(
            f"features must have shape (N, ..., D), got {check.shown(features)}; a single sample is "
            "features.unsqueeze(0)"
        )
    check.require_rank(2, "(C, D)", weight=weight)
    classes, size = weight.shape
    if features.shape[-1] != size:
        fix = "write weight.T" if features.shape[-1] == classes else "pass the weight (C, D) of the layer they enter"
        raise InputError(
            f"features {tuple(features.shape)} need a weight of {features.shape[-1]} columns, one a feature, got "
            f"{check.shown(weight)}; {fix}"
        )
    if not classes:
        raise InputError(
            f"weight must have at least one row, one for each class, got {check.shown(weight)}; pass that of the layer"
        )
    if bias is not None and bias.shape != (classes,):
        raise InputError(
            f"bias must have shape {(classes,)}, one number for each row of the weight, got {check.shown(bias)}; pass "
            "that of the same layer, or None"
        )


def require_one_precision(linear: LinearLogits) -> None:
    """Raise where a layer is of another precision than what it is given; half precision beside float32, as autocast
    leaves them, is none."""
    features, weight, bias = linear
    for name, part in (("weight", weight), ("bias", bias)):
        if part is not None and part.dtype is not features.dtype:
            raise InputError(
                f"features and {name} must be of one precision, got {check.shown(features)} and {check.shown(part)}; "
                f"write {name}.to(features.dtype)"
            )


def accepted_target(linear: LinearLogits, target: Tensor) -> Tensor:
    """Return a target in the dtype that losses take, or raise where its shape is not that of the positions."""
    positions, classes = linear.positions, linear.classes
    check.require_real(target=target)
    soft = target.dtype.is_floating_point
    if target.shape == ((*positions, classes) if soft else positions):
        return matched(target, linear.features) if soft else target.long()
    fix = "give one index per position"
    if soft:
        fix = "the classes come last, as in what the linear layer returns"
        fix = "class indices must be integers: target.long()" if target.shape == positions else fix
    elif target.shape == (*positions, classes):
        fix = "if it is one-hot, pass target.float() as probabilities or target.argmax(-1) as indices"
    elif target.shape == (*positions, 1):
        fix = "write target.squeeze(-1)"
    wanted = f"probabilities of shape {(*positions, classes)}" if soft else f"class indices of shape {tuple(positions)}"
    raise InputError(
        f"features {tuple(linear.features.shape)} and {classes} classes need {wanted}, got {check.shown(target)}; {fix}"
    )
