"""Executable properties that a loss declares. A law is documentation that runs: tests hold every loss to its own.

Laws are checked on a batch that the loss's kind of input drew, in float64. They are necessary, never sufficient: every
loss also has an independent oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from losses.core.outputs import Gaussian, LinearLogits, Pairs, map_floating

if TYPE_CHECKING:
    from losses.core.inputs import Batch
    from losses.core.loss import Loss


class LawError(AssertionError):
    """A loss does not have a property that it declares."""


@dataclass(frozen=True)
class Law:
    """A property of a loss: its sentence, and a check that raises :class:`LawError` on a batch that shows otherwise."""

    name: str
    sentence: str
    check: Callable[[Loss, Batch], None]

    def __repr__(self) -> str:
        return self.name


def equal(what: str, got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Raise :class:`LawError` unless two results agree."""
    if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        raise LawError(f"{what}: {got.tolist()} is not {expected.tolist()}")


def changed(loss: Loss, **parameters: Any) -> Loss:
    """Return the same loss with some parameters replaced."""
    return type(loss)(**(loss._arguments() | parameters))


def _non_negative(loss: Loss, batch: Batch) -> None:
    items = changed(loss, reduction="none")(*batch)
    if items.numel() and items.min() < -1e-12:
        raise LawError(f"an item is {items.min().item()}")


def _zero_at_target(loss: Loss, batch: Batch) -> None:
    value = loss(batch.target, batch.target)
    equal("loss(target, target)", value, torch.zeros_like(value), 1e-12)


def _symmetric(loss: Loss, batch: Batch) -> None:
    equal("loss(target, output)", loss(batch.target, batch.output), loss(*batch))


def _symmetric_in_pairs(loss: Loss, batch: Batch) -> None:
    if isinstance(batch.output, Pairs):
        first, second = batch.output
        equal("the pair turned round", loss(Pairs(second, first), batch.target), loss(*batch))


def _translation_invariant(loss: Loss, batch: Batch) -> None:
    output, target = batch
    if isinstance(output, Gaussian):  # which moves with its mean
        moved: Any = output._replace(mean=output.mean + 3)
    else:
        moved = map_floating(output, lambda t: t + 3)
    equal("shifted by 3", loss(moved, map_floating(target, lambda t: t + 3)), loss(*batch), 1e-7)


def _least_at_log_target(loss: Loss, batch: Batch) -> None:
    unreduced = changed(loss, reduction="none")
    counted = batch.target > 0
    items, least = (unreduced(part, batch.target) for part in (batch.output, batch.target.where(counted, 1).log()))
    if (items < least - 1e-12)[counted].any():
        raise LawError(f"an item is {(items - least)[counted].min().item()} below that of the logarithm of its target")


def _shift_of_output(loss: Loss, batch: Batch) -> None:
    output = batch.output
    if isinstance(output, LinearLogits):
        shifted: Any = output._replace(
            bias=output.weight.new_full((output.classes,), 3) if output.bias is None else output.bias + 3
        )
    else:
        shifted = output + 3
    equal("logits + 3", loss(shifted, batch.target), loss(*batch))


def _scale_of_output(loss: Loss, batch: Batch) -> None:
    equal("embeddings * 3", loss(map_floating(batch.output, lambda t: t * 3), batch.target), loss(*batch))


NON_NEGATIVE = Law("NON_NEGATIVE", "no item is below 0", _non_negative)
ZERO_AT_TARGET = Law("ZERO_AT_TARGET", "the loss of the target against itself is 0", _zero_at_target)
SYMMETRIC = Law("SYMMETRIC", "output and target can change places", _symmetric)
SYMMETRIC_IN_PAIRS = Law("SYMMETRIC_IN_PAIRS", "the two sides of a pair can change places", _symmetric_in_pairs)
TRANSLATION_INVARIANT = Law(
    "TRANSLATION_INVARIANT", "moving everything by a constant changes nothing", _translation_invariant
)
LEAST_AT_LOG_TARGET = Law(
    "LEAST_AT_LOG_TARGET", "no item is below that of the logarithm of its target", _least_at_log_target
)
SHIFT_INVARIANT_LOGITS = Law(
    "SHIFT_INVARIANT_LOGITS", "a constant added to all logits changes nothing", _shift_of_output
)
SCALE_INVARIANT = Law("SCALE_INVARIANT", "the length of the embeddings does not matter", _scale_of_output)


def scales(power: float, *parameters: str) -> Law:
    """Return the law of a loss's unit: times s in output, target and ``parameters`` is times s**power in the loss."""

    def check(loss: Loss, batch: Batch) -> None:
        scaled = changed(loss, **{name: getattr(loss, name) * 2 for name in parameters})
        output, target = (map_floating(part, lambda t: t * 2) for part in batch)
        equal("everything times 2", scaled(output, target), loss(*batch) * 2**power)

    name = f"scales({power:g}{''.join(f', {parameter}' for parameter in parameters)})"
    return Law(name, f"the loss is in the unit of the data to the power {power:g}", check)


def bounded(high: float) -> Law:
    """Return the law that no item is above ``high``."""

    def check(loss: Loss, batch: Batch) -> None:
        items = changed(loss, reduction="none")(*batch)
        if items.numel() and items.max() > high + 1e-9:
            raise LawError(f"an item is {items.max().item()}, above {high}")

    return Law(f"bounded({high:.3g})", f"no item is above {high:.3g}", check)
