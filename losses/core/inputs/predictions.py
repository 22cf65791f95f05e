"""Kinds of input with one tensor against another: predictions, scores and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import (
    INTEGERS,
    REGIMES,
    Asked,
    Batch,
    Form,
    Kind,
    filled,
    halved,
    normal,
    retyped,
    signs,
    uniform,
    yes_and_no,
)
from losses.core.precision import COMPUTED_IN, matched, widened
from losses.core.reduction import expanded, hides_nothing


class Pointwise(Kind):
    """One number predicted for each number wanted."""

    name, returns = "POINTWISE", "prediction"
    output_text, target_text = "prediction (*)", "the same shape"

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(prediction=output, target=target)
        if output.shape != target.shape:
            check.require_same_shape(prediction=output, target=target)
        if output.dtype is target.dtype and output.dtype in COMPUTED_IN:
            return output, target
        if not (output.dtype.is_floating_point and target.dtype.is_floating_point):
            check.require_floating(prediction=output, target=target)
        output = widened(output)
        return output, matched(target, output)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        _, target = batch
        return {
            "equal_points": [Batch(target, target), Batch(torch.zeros_like(target), torch.zeros_like(target))],
            "near_duplicates": [Batch(target + 1e-4, target)],
            "extreme_values": [Batch(filled(target, 1e4), target), Batch(filled(target, 1e4), filled(target, -1e4))],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        output, target = batch
        return {
            **{name: Batch(way(output), way(target)) for name, way in REGIMES.items()},
            "1000 away from 0": Batch(output + 1e3, target + 1e3),
            "0.001 beside the target": Batch(target + 1e-3 * output, target),
            "integers from a prediction in between": Batch(output, target.round()),
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), normal(generator, size, 3).detach())

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_elements(batch)

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        apart = torch.linspace(0, 1e-3, batch.target.numel(), dtype=torch.float64).reshape(batch.target.shape)
        return [batch, Batch(batch.output, batch.target + apart)]


class Scores(Kind):
    """One score for each yes-or-no question; its sign is the decision."""

    name, returns = "SCORES", "logit"
    output_text, target_text = (
        "scores (*)",
        "the same shape; positive where the target is above 0, so {0, 1}, {-1, 1} and bool all work",
    )

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(**{self._word(): output, "target": target})
        if output.shape != target.shape:
            check.require_same_shape(**{self._word(): output, "target": target})
        if output.dtype is target.dtype and output.dtype in COMPUTED_IN:
            return output, target
        if not output.dtype.is_floating_point:
            check.require_floating(**{self._word(): output})
        if target.dtype.is_complex:
            check.require_real(target=target)
        output = widened(output)
        return output, matched(target, output)

    def _word(self) -> str:
        """Return what the output is called."""
        return self.output_text.split()[0]

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        scores, target = batch
        zeros, ones = torch.zeros_like(target), torch.ones_like(target)
        return {
            "equal_points": [Batch(torch.zeros_like(scores), target)],
            "extreme_values": [Batch(filled(scores, 1e4), part) for part in (target, zeros, ones)],
            "one_class": [Batch(scores, zeros), Batch(scores, ones)],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), (uniform(generator, size, 3) > 0.5).double() * 2 - 1)

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return shapes_of_elements(batch)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"yes and no": signs(batch) + yes_and_no(batch)}


class Binary(Scores):
    """One logit for each yes-or-no question, against a probability."""

    name, returns = "BINARY", "logit"
    output_text, target_text = "logits (*)", "probabilities in [0, 1] of the same shape; bool and integers count"

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        super().inspect(loss, output, target)
        check.require_between(0, 1, "for labels in {-1, 1} pass (target > 0)", target=target)
        check.warn_of_sigmoid(output)

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        certain = Batch(batch.output, batch.target.round())
        return {**super().regimes(loss, batch), "certain targets": certain}

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), uniform(generator, size, 3))

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"yes and no": yes_and_no(Batch(batch.output, batch.target - 0.5))}

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        return [batch, Batch(batch.output, 0.99 * batch.target + 0.003)]


class Logits(Kind):
    """One logit for each class, at every position, against class indices or probabilities."""

    name, returns = "LOGITS", "logits"
    output_text, target_text = "logits (N, C, ...)", "class indices (N, ...) or probabilities (N, C, ...)"
    asks: ClassVar[Mapping[str, Asked]] = {
        "ignore_index": Asked("the target of positions that do not count", types=(int, NoneType)),
        "class_weight": Asked("weights of classes: a mean over indices divides by those of the targets"),
    }

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(logits=output, target=target)
        if output.ndim < 2:
            raise InputError(
                f"logits must have shape (N, C, ...), got {check.shown(output)}; a single sample is logits.unsqueeze(0)"
            )
        if not output.dtype.is_floating_point:
            check.require_floating(logits=output)
        if output.shape[1] == 0 or target.dtype.is_complex:
            check.require_real(target=target)
            raise InputError(
                f"logits must have at least one class, got {check.shown(output)}; the classes are dimension 1"
            )
        output = widened(output)
        if target.dtype is torch.int64 and target.shape == positions(output):
            return output, target
        if target.dtype.is_floating_point:
            return output, self._accepted_probabilities(output, target)
        return output, self._accepted_indices(output, target)

    def _accepted_probabilities(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.shape != logits.shape:
            as_indices = target.shape == positions(logits)
            raise InputError(
                f"a floating point target holds probabilities and must have the logits' shape {tuple(logits.shape)}, "
                f"got {check.shown(target)}{'; class indices must be integers: target.long()' if as_indices else ''}"
            )
        return matched(target, logits)

    def _accepted_indices(self, logits: Tensor, target: Tensor) -> Tensor:
        indices = positions(logits)
        if target.shape != indices:
            fix = "write target.squeeze(-1)" if target.shape == (*indices, 1) else "give one index per position"
            if target.shape == logits.shape:
                fix = self.of_one_hot
            raise InputError(
                f"logits {tuple(logits.shape)} need class indices of shape {tuple(indices)}, "
                f"got {check.shown(target)}; {fix}"
            )
        return target.long()

    of_one_hot = "if it is one-hot, pass target.float() as probabilities or target.argmax(1) as indices"

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        check.require_logits(1, logits=output)
        check.require_no_nan(target=target)
        if check.looks_like_probabilities(output, 1):
            raise InputError(
                "logits look like probabilities (in [0, 1], summing to 1 over classes); "
                "remove the softmax before the loss"
            )
        if target.dtype.is_floating_point:
            check.require_distributions(1, target=target)
            return
        require_classes(target, output.shape[1], self.ask(loss, "ignore_index"))

    def mask(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        weight = expanded(weight, positions(output))
        if hides_nothing(weight):
            return Batch(output, target)
        absent = weight == 0
        if target.dtype.is_floating_point:
            target = target.masked_fill(absent.unsqueeze(1), 1 / output.shape[1])
        else:
            target = target.masked_fill(absent, 0)
        return Batch(output.masked_fill(absent.unsqueeze(1), 0), target)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        logits, labels = batch
        classes = logits.shape[1]
        one_hot = torch.nn.functional.one_hot(labels, classes).to(logits.dtype)
        impossible = torch.where(one_hot.bool(), logits, -torch.inf)
        targets = self._targets(labels, one_hot)
        edges = {
            "equal_points": [Batch(torch.zeros_like(logits), target) for target in targets],
            "extreme_values": [
                Batch(part, target)
                for part in (filled(logits, 1e4), one_hot * 2e4 - 1e4, 1e4 - one_hot * 2e4)
                for target in targets
            ],
            "infinite_logits": [Batch(impossible, target) for target in targets],
            "one_class": [Batch(logits, torch.zeros_like(labels))],
            "every_label_different": [Batch(logits[:classes], torch.arange(classes))],
        }
        if len(targets) > 1:
            edges["one_hot_and_disjoint"] = [Batch(logits, one_hot)]
        if (ignored := self.ask(loss, "ignore_index")) is not None:
            edges["everything_ignored"] = [Batch(logits, torch.full_like(labels, ignored))]
        return edges

    def _targets(self, labels: Tensor, one_hot: Tensor) -> tuple[Tensor, ...]:
        """Return the same classes in every way that a target may say them."""
        return labels, one_hot

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 5), torch.randint(5, (size,), generator=generator))

    def shapes(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        def in_a_row(tensor: Tensor) -> Tensor:
            return halved(tensor).movedim(-1, 1) if tensor.ndim == 2 else halved(tensor)

        def in_a_plane(tensor: Tensor) -> Tensor:
            plane = halved(tensor).unsqueeze(0)
            return plane.movedim(-1, 1) if tensor.ndim == 2 else plane

        row, plane = (Batch(*(change(part) for part in batch)) for change in (in_a_row, in_a_plane))
        return {"positions": [Form(batch), Form(row), Form(plane)]}

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        logits, target = batch
        indices = target.argmax(1) if target.dtype.is_floating_point else target
        chosen = Batch(logits, indices)
        one_hot = torch.nn.functional.one_hot(indices, logits.shape[1]).to(logits.dtype)
        others = [Form(Batch(logits, said)) for said in self._targets(indices, one_hot)]
        return {"indices": retyped(chosen, *INTEGERS)} | (
            {"one-hot probabilities": others} if self.ask(loss, "class_weight") is None else {}
        )

    def close_targets(self, loss: Any, batch: Batch) -> list[Batch]:
        logits, target = batch
        indices = target.argmax(1) if target.dtype.is_floating_point else target
        one_hot = torch.nn.functional.one_hot(indices, logits.shape[1]).to(logits.dtype)
        near = [target for target in self._targets(indices, one_hot) if target.dtype.is_floating_point]
        return [Batch(logits, part * (1 - s) + s / logits.shape[1]) for part in near for s in (0.2, 0.21)]


class ClassIndices(Logits):
    """One logit for each class, at every position, against class indices alone."""

    name = "CLASS_INDICES"
    target_text = "class indices (N, ...)"
    of_one_hot = "if it is one-hot, pass target.argmax(1)"

    def _accepted_probabilities(self, logits: Tensor, target: Tensor) -> Tensor:
        fix = "target.argmax(1)" if target.shape == logits.shape else "target.long()"
        raise InputError(
            f"logits {tuple(logits.shape)} need class indices of shape {tuple(positions(logits))} here, not "
            f"probabilities, got {check.shown(target)}; write {fix}"
        )

    def _targets(self, labels: Tensor, one_hot: Tensor) -> tuple[Tensor, ...]:
        return (labels,)


def require_classes(target: Tensor, classes: int, ignored: int | None) -> None:
    """Raise unless class indices lie within the classes, or are those of positions that are ignored."""
    wrong = (target < 0) | (target >= classes)
    if ignored is not None:
        wrong &= target != ignored
    if bool(wrong.any()):
        spared = "" if ignored is None else f" (or ignore_index={ignored})"
        raise InputError(
            f"target holds class {int(target[wrong][0])}, logits have {classes} classes; "
            f"indices run from 0 to {classes - 1}{spared}"
        )


def positions(logits: Tensor) -> tuple[int, ...]:
    """Return the logits' shape without classes: one entry per item."""
    shape = logits.shape
    return shape[:1] if len(shape) == 2 else shape[:1] + shape[2:]


def shapes_of_elements(batch: Batch) -> dict[str, list[Form]]:
    """Return the elements of a batch ``(N, D)`` in other shapes, and one of them alone."""

    def in_shapes(batch: Batch, *changes: Callable[[Tensor], Tensor]) -> list[Form]:
        return [Form(batch), *(Form(Batch(*(change(part) for part in batch))) for change in changes)]

    return {
        "many": in_shapes(batch, torch.flatten, halved, lambda tensor: tensor.unsqueeze(-1), lambda tensor: tensor.mT),
        "one alone": in_shapes(Batch(*(part[:1, 0] for part in batch)), torch.squeeze),
    }
