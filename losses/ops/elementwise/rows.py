"""Sums over rows of scores, a cache-sized block at a time, with the gradient written once on the way.

A *row* is the scores of all classes at one position. What a plain composition writes for every score (their
log-probabilities, products, derivatives) is fresh memory, the main cost of a large batch on a CPU. A
:class:`RowFormula` tells value and derivative of a block of rows in buffers that all blocks share;
:func:`sum_over_rows` goes through the blocks and makes the sum differentiable. A block in which something is not finite
is left to the formula's definition.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.core.precision import accumulation_dtype
from losses.core.reduction import expanded, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import chained, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.buffers import gradient_like
from losses.ops.numerics.softmax import WIDE
from losses.ops.tiles.rows import by_autograd
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised

Definition = Callable[[Tensor, Tensor], Tensor]
Place = tuple[slice, slice]
"""Samples and positions of a block."""
FURTHER = 4
"""Times as many elements in a block where torch's softmax takes its rows one by one from the scores to the gradient:
then it is of no use that they stay in a cache together, and fewer blocks have fewer operations."""
LOWEST = -1e4  # whose exponential is 0 in every dtype, and which times 0 is 0


class Rows:
    """The blocks of rows of scores ``(N, C, P)``, each of whole rows.

    Args:
        scores: one row of classes for each of P positions of N samples.
        gradient: of the same shape, to be written, if it is wanted.
        formula: that they are for.
    """

    def __init__(self, scores: Tensor, gradient: Tensor | None, formula: RowFormula) -> None:
        self.scores, self.gradient = scores, gradient
        samples, classes, positions = scores.shape
        elements = sizes().row_elements
        if gradient is not None and formula.takes_softmax(scores):
            elements *= FURTHER
        room = max(1, elements // max(1, classes * formula.buffers))  # rows of a block
        self.step = max(1, min(samples, room // max(1, positions))), max(1, min(positions, room))
        self.buffers = Buffers(scores, self.step[0] * classes * self.step[1])

    def __iter__(self) -> Iterator[RowBlock]:
        samples, _, positions = self.scores.shape
        for start in range(0, samples, self.step[0]):
            rows = slice(start, min(start + self.step[0], samples))
            for first in range(0, positions, self.step[1]):
                place = rows, slice(first, min(first + self.step[1], positions))
                gradient = None if self.gradient is None else part_at(place, self.gradient)
                yield RowBlock(place, part_at(place, self.scores), gradient, self.buffers)


class Buffers:
    """Memory to work in, the same for every block.

    Args:
        like: a tensor of the dtype and device that is wanted.
        length: of the largest block.
    """

    def __init__(self, like: Tensor, length: int) -> None:
        self.like, self.length = like, length
        self._kept: dict[int, Tensor] = {}

    def get(self, number: int, shape: torch.Size) -> Tensor:
        """Return a buffer in the shape of a block."""
        if number not in self._kept:
            self._kept[number] = self.like.new_empty(self.length)
        return self._kept[number][: shape.numel()].view(shape)


class RowBlock:
    """A block of rows: ``scores (B, C, P)``, memory to work in, and the place of their gradient, if it is wanted."""

    def __init__(self, place: Place, scores: Tensor, gradient: Tensor | None, buffers: Buffers) -> None:
        self._place, self._buffers = place, buffers
        self.scores, self.gradient = scores, gradient

    def of(self, tensor: Tensor) -> Tensor:
        """Return the part of a tensor ``(N, C, P)`` or ``(N, 1, P)`` that lies beside the block."""
        return part_at(self._place, tensor)

    def buffer(self, number: int) -> Tensor:
        """Return a buffer in the shape of the block: 1, 2, ...; 0 is the gradient itself, if it is wanted."""
        if number == 0 and self.gradient is not None:  # memory is written to once
            return self.gradient
        return self._buffers.get(number, self.scores.shape)


def part_at(place: Place, tensor: Tensor) -> Tensor:
    """Return a block of a tensor ``(N, C, P)`` or ``(N, 1, P)``."""
    samples, positions = place
    part = tensor[samples]
    return part if positions == slice(0, tensor.shape[2]) else part[:, :, positions]


class RowFormula(ABC):
    """Value of every row of scores and its derivative by them.

    Args:
        target: what the scores are compared with, ``(N, C, P)`` or ``(N, 1, P)``.
        definition: from scores and target to the values of all rows ``(N, P)``, as a plain composition. It answers for
            second derivatives and for blocks whose values are not finite.
    """

    buffers: int

    def __init__(self, target: Tensor, definition: Definition) -> None:
        self.target, self.definition = target, definition

    def takes_softmax(self, scores: Tensor) -> bool:
        """Return whether, for a gradient by scores ``(N, C, P)``, torch's softmax writes to its place."""
        return False

    @abstractmethod
    def values(self, block: RowBlock, slopes: Tensor | float) -> Tensor:
        """Return the values of a block's rows ``(B, 1, P)``, and leave their derivatives times ``slopes (B, 1, P)`` in
        its gradient, if that is wanted."""


def has_fast_rows(scores: Tensor, *others: Tensor | None, least: int | None = None) -> bool:
    """Return whether blocks of rows pay: the batch has the ``least`` number of scores, is on a CPU, nobody traces it,
    and a gradient is wanted by the scores alone."""
    if not may_read(scores):  # asked first: where a program is made for any size, a size that is asked is a limit
        return False
    if scores.numel() < (sizes().rows_in_blocks if least is None else least) or not is_eager(scores, *others):
        return False
    return not any(other is not None and other.requires_grad for other in others)


def sum_over_rows(
    formula: RowFormula, scores: Tensor, weight: Tensor | None = None, *, divisor: float | None = None
) -> Tensor:
    """Return the sum of a formula over the rows of scores ``(N, C, P)``, differentiable by the scores.

    Args:
        formula: of a row.
        scores: one row of classes for each of P positions of N samples.
        weight: of every row ``(N, P)``.
        divisor: the sum is divided by it already where the gradient is written; 0 makes 0 of it.
    """
    wanted = torch.is_grad_enabled() and scores.requires_grad  # inside of a Function it never is
    if weight is None:
        scale = 1.0 if divisor is None else 1 / divisor if divisor >= torch.finfo(scores.dtype).tiny else 0.0
        return applied(formula, wanted, scores, scale)
    relative, greatest = normalised(weight)
    assert relative is not None  # as the weights
    total: Tensor = applied(formula, wanted, scores, relative.unsqueeze(1)) * greatest
    return total


def applied(formula: RowFormula, wanted: bool, scores: Tensor, slopes: Tensor | float) -> Tensor:
    total: Tensor = RowSum.apply(formula, wanted, scores, slopes)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return total


class RowSum(torch.autograd.Function):
    """The sum of a formula over rows as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, formula: RowFormula, wanted: bool, scores: Tensor, slopes: Tensor | float) -> Tensor:
        gradient = None
        if wanted:
            gradient = gradient_like(scores) if scores.is_contiguous() else torch.empty_like(scores)
        total = torch.zeros((), dtype=accumulation_dtype(scores), device=scores.device)
        for block in Rows(scores, gradient, formula):
            total += sum_of_block(formula, block, slopes)
        ctx.formula, ctx.slopes = formula, slopes
        ctx.save_for_backward(scores, gradient)
        return (total * slopes if isinstance(slopes, float) else total).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        scores, of_scores = ctx.saved_tensors
        if torch.is_grad_enabled():  # several at once can be had of what was saved
            (of_scores,) = plain_gradients(partial(sum_by_definition, ctx.formula, ctx.slopes), gradient, scores)
        else:
            of_scores = chained(gradient, of_scores)
        return None, None, of_scores, None


def sum_of_block(formula: RowFormula, block: RowBlock, slopes: Tensor | float) -> Tensor:
    """Return the sum of a block in the precision of the accumulation, weighted where every row has its slope."""
    here = block.of(slopes) if isinstance(slopes, Tensor) else slopes
    values = formula.values(block, here)
    total = (values * here if isinstance(here, Tensor) else values).sum(dtype=accumulation_dtype(values))
    if math.isfinite(total.item()):
        return total
    values = values_by_definition(formula, block, here if isinstance(here, Tensor) else torch.full_like(values, here))
    return (weighted(values, here) if isinstance(here, Tensor) else values).sum(dtype=accumulation_dtype(values))


def values_by_definition(formula: RowFormula, block: RowBlock, slopes: Tensor) -> Tensor:
    """Return the values of a block's rows ``(B, 1, P)`` as :meth:`RowFormula.values` does, by the definition."""
    values, found = derived_by_definition(formula, block, slopes, wanted=block.gradient is not None)
    if block.gradient is not None:
        block.gradient.copy_(found[0])
    return values


def derived_by_definition(
    formula: RowFormula, block: RowBlock, slopes: Tensor, *, wanted: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the values of a block's rows by the definition and, if it is wanted, their gradient times slopes."""

    def items(scores: Tensor) -> Tensor:
        return formula.definition(scores, block.of(formula.target)).unsqueeze(1)

    return by_autograd(items, [block.scores], slopes, wanted=wanted)


def sum_by_definition(formula: RowFormula, slopes: Tensor | float, scores: Tensor) -> Tensor:
    """Return the same sum as a plain composition."""
    items = formula.definition(scores, formula.target)
    return items.sum() * slopes if isinstance(slopes, float) else weighted(items, slopes.squeeze(1)).sum()


def are_wide(scores: Tensor) -> bool:
    """Return whether torch's softmax takes scores ``(N, C, P)`` in fewer passes than a formula does: rows in one piece
    that fill its vectors."""
    return scores.shape[1] >= WIDE and scores.shape[2] == 1


def softmax_in_place(block: RowBlock, index: Tensor) -> Tensor | None:
    """Write the softmax of a block's rows, which :func:`are_wide`, to the place of their gradient, and return what it
    is at the index ``(B, 1, P)``; ``None`` where that is so small that its logarithm would be that of few digits."""
    probs = block.buffer(0)
    torch.softmax(block.scores.squeeze(-1), 1, out=probs.squeeze(-1))
    found = probs.gather(1, index)
    return found if found.amin().item() > torch.finfo(found.dtype).tiny * 1e8 else None


class RowLayout:
    """How scores ``(N, C, ...)`` are looked at as rows ``(N, C, P)``."""

    def __init__(self, scores: Tensor) -> None:
        self.shape = scores.shape[:1] + scores.shape[2:]
        # classes were last in memory before somebody moved them: then every position is a sample
        self.classes_last = scores.ndim > 2 and scores.movedim(1, -1).is_contiguous()

    def of_classes(self, tensor: Tensor) -> Tensor:
        """Return a tensor ``(N, C, ...)`` as ``(N, C, P)``."""
        if tensor.ndim == 2:
            return tensor.unsqueeze(-1)
        return tensor.movedim(1, -1).flatten(0, -2).unsqueeze(-1) if self.classes_last else tensor.flatten(2)

    def of_positions(self, tensor: Tensor) -> Tensor:
        """Return one number per position ``(N, ...)``, or per leading index, as ``(N, P)``."""
        tensor = expanded(tensor, self.shape)
        return tensor.reshape(-1, 1) if self.classes_last or tensor.ndim == 1 else tensor.flatten(1)


def shifted(values: Tensor, out: Tensor) -> Tensor:
    """Write values less the largest of their row to ``out``, and return the largest ``(B, 1, P)``."""
    largest = values.amax(1, keepdim=True)
    torch.sub(values, largest, out=out)
    return largest


def subtract_multiple(values: Tensor, others: Tensor, factors: Tensor | float) -> None:
    """Subtract a multiple of others ``(B, C, P)`` from values, one for all rows or one for each ``(B, 1, P)``."""
    if isinstance(factors, Tensor):
        values.addcmul_(others, factors, value=-1)
    else:
        values.sub_(others, alpha=factors)
