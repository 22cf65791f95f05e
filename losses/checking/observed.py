"""What a loss makes of batch after batch, far and near, so that two losses can be told apart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor

from losses.checking.case import EXACT, SIZE, Case, in_precision
from losses.core.checks import checks
from losses.core.errors import ConfigError, InputError
from losses.core.inputs import DISTRIBUTION_OBJECTS, Batch
from losses.core.outputs import map_floating, tensors_in

NOTICEABLE = 1e-7
"""By how much of the largest number two results differ that are meant to differ."""
FINEST = 1e-12
"""The least that is no rounding in float64."""


class Batches:
    """Batches that are drawn when they are asked for, and once."""

    def __init__(self, draws: Iterable[Batch]) -> None:
        self.remaining, self.drawn = iter(draws), list[Batch]()

    def __getitem__(self, index: int) -> Batch:
        """Return a batch.

        Raises:
            IndexError: there are not so many.
        """
        self.drawn += islice(self.remaining, index + 1 - len(self.drawn)) if index >= len(self.drawn) else ()
        return self.drawn[index]


class Observed:
    """A loss on batch after batch, computed when they are asked for."""

    def __init__(self, loss: Any, batches: Batches) -> None:
        self.loss, self.batches = loss, batches
        self.results: list[list[Tensor] | Exception] = []

    def __iter__(self) -> Iterator[list[Tensor] | Exception]:
        """Yield value and gradients of batch after batch, or the errors that they ended in."""
        for index in count():
            try:
                yield self[index]
            except IndexError:
                return

    def __getitem__(self, index: int) -> list[Tensor] | Exception:
        """Return value and gradients, or the error that they ended in.

        Raises:
            IndexError: there are not so many batches.
        """
        while len(self.results) <= index:
            self.results.append(result_of(self.loss, self.batches[len(self.results)]))
        return self.results[index]

    def first_difference(self, other: Observed, tolerance: float = NOTICEABLE, among: int = sys.maxsize) -> int | None:
        """Return the first batch, of all or of the first few, on which two losses differ, if there is one."""
        for index, (mine, yours) in enumerate(zip(self, other, strict=True)):
            if index == among:
                break
            if are_apart(mine, yours, tolerance):
                return index
        return None

    def differs_from(self, other: Observed, tolerance: float = NOTICEABLE, among: int = sys.maxsize) -> bool:
        return self.first_difference(other, tolerance, among) is not None

    def require_answers(self, what: str) -> None:
        """Raise the error of the first batch, if it ended in one: it was drawn for the loss."""
        if isinstance(error := self[0], Exception):
            raise type(error)(f"{what}: {error}") from None


def result_of(loss: Any, batch: Batch) -> list[Tensor] | Exception:
    """Return value and gradients of a loss, whatever the values of the batch, or the error that it raises."""
    try:
        with checks("never"):
            value, gradients = Case(loss, None).run(batch)  # type: ignore[arg-type]  # the batch is there already
    except Exception as error:
        return error
    return [value.detach(), *gradients]


def are_apart(one: list[Tensor] | Exception, other: list[Tensor] | Exception, tolerance: float) -> bool:
    """Return whether two results differ by more than a fraction of their largest number."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return type(one) is not type(other)
    return any(apart(mine, yours, tolerance) for mine, yours in zip(one, other, strict=True))


def apart(mine: Tensor, yours: Tensor, tolerance: float) -> bool:
    if mine.shape != yours.shape:
        return True
    if not mine.numel() or not bool(mine.isfinite().all() & yours.isfinite().all()):
        return False
    return bool((mine - yours).abs().max() > tolerance * torch.maximum(mine.abs().max(), yours.abs().max()))


def batches_for(case: Case) -> Batches:
    """Return batches that show the parameters of a loss: ordinary, far out, close in, at both ends of every bounded
    distance, at integers, and many; then the same of the other kinds of input that the loss takes."""
    kinds = [kind for kind in case.loss.inputs if kind not in (case.kind, DISTRIBUTION_OBJECTS)]
    cases = [case, *(Case(case.loss, kind) for kind in kinds)]
    return Batches(batch for each in cases for batch in regimes(each))


def regimes(case: Case) -> Iterator[Batch]:
    """Yield batches of one kind of input, the cheapest first."""
    changes: list[tuple[int, Callable[[Tensor], Tensor]]] = [
        (SIZE, lambda tensor: tensor),
        (SIZE, lambda tensor: tensor * 1e2),
        (SIZE, lambda tensor: tensor * 1e-3),
        (SIZE, at_poles),
        (SIZE, torch.round),
        (3 * SIZE, lambda tensor: tensor),
        (3 * SIZE, at_poles),
    ]
    for seed, (size, change) in enumerate(changes):
        drawn = case.batch(size, seed=seed)
        changed = Batch(*(changed_by(change, part) for part in drawn))
        for batch in (changed, changed._replace(target=drawn.target)):
            if is_valid(case, batch):
                yield in_precision(batch, EXACT)
                break


def changed_by(change: Callable[[Tensor], Tensor], part: Any) -> Any:
    return map_floating(part, lambda tensor: change(tensor.detach()))


def at_poles(tensor: Tensor) -> Tensor:
    """Return rows close to one direction and, two by two, to the opposite one.

    The first number of a tensor decides which comes first, so that of two tensors some rows lie together and others
    opposite.
    """
    if tensor.ndim < 2:
        return tensor
    turned = (torch.arange(len(tensor)) // 2 + (tensor.flatten()[:1] > 0)) % 2
    signs = (1 - 2 * turned).to(tensor.dtype).reshape(-1, *[1] * (tensor.ndim - 1))
    return signs * (1 + 0.3 * tensor)


def is_valid(case: Case, batch: Batch) -> bool:
    """Return whether the kind of input takes a batch, its values too."""
    try:
        case.kind.inspect(case.loss, *case.kind.accept(case.loss, *batch))
    except (InputError, ConfigError):
        return False
    return all(bool(tensor.double().isfinite().all()) for part in batch for tensor in tensors_in(part))
