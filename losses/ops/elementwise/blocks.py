"""Sums over elements in blocks that stay in a processor's cache, with the derivative by hand.

Large temporaries are what a plain composition takes its time for: each is fresh memory that is written, read and handed
back. Here two buffers take the values of one block after the other, and the gradient is written once, on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.inputs.kind import masked
from losses.core.reduction import require_weight_fits, weighted
from losses.core.torch_private import applied_outside_transforms, may_read
from losses.ops.derivatives import Written, chained, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.buffers import buffers, gradient_like
from losses.ops.elementwise.formulas import Formula
from losses.ops.tiles.sizes import sizes

Definition = Callable[[Tensor, Tensor], Tensor]

CERTAIN = 0.1
"""Of a mean: from here on it is off by less than 1e-6 of itself where every value is off by half a unit in the last
place of 1."""


def suits_blocks(
    output: Tensor, target: Tensor, weight: Tensor | None = None, *, fused: bool = False, long: bool = False
) -> bool:
    """Return whether blocks are worth while and may answer: for many elements on a CPU, where nobody traces, transforms
    or wants a derivative by something else than the output; for more of them where there is a ``fused`` function, for
    fewer where the plain composition is ``long``."""
    if not may_read(output):  # asked first: where a program is made for any size, a size that is asked is a limit
        return False
    least = min(sizes().in_blocks, sizes().in_blocks_long) if long else sizes().in_blocks
    if fused and weight is not None:
        least = sizes().in_blocks_fused_weighted
    elif fused:
        least = min(sizes().in_blocks_fused, sizes().in_blocks_fused_long) if long else sizes().in_blocks_fused
    if output.numel() < least or not output.numel():
        return False
    others = (target,) if weight is None else (target, weight)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in others):
        return False
    return is_eager(output, *others) and (weight is None or weight.ndim > 0)


def sum_in_blocks(
    formula: Formula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return sum(w l) of all items of a batch that :func:`suits_blocks`, differentiable by the output; what has weight
    0 is absent.

    Args:
        formula: value and derivative of an element.
        definition: the items as a plain composition; it answers for second derivatives.
        output: of any shape.
        target: of the same.
        weight: one per element or per leading index.
    """
    if weight is None:
        return quotient(formula, definition, output, target, None, 1.0)
    whole = whole_weight(output, weight)
    if not torch.finfo(weight.dtype).tiny <= whole < math.inf:
        return quotient(formula, definition, output, target, weight, 1.0)
    mean = quotient(formula, definition, output, target, weight, whole)  # in which tiny weights keep their digits
    return mean * whole


def mean_in_blocks(
    formula: Formula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor | None:
    """Return sum(w l) / sum(w) likewise; ``None`` where there is nothing to divide by."""
    whole = float(output.numel()) if weight is None else whole_weight(output, weight)
    if not torch.finfo(output.dtype).tiny <= whole < math.inf:
        return None
    return quotient(formula, definition, output, target, weight, whole)


def mean_in_one_piece(
    formula: Formula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor | None:
    """Return sum(w l) / sum(w) of too few elements for blocks, where a formula has value and derivative together;
    ``None`` where only the plain composition may answer, nobody asks for its gradient, elements have no weight each,
    or it is not finite, perhaps by what has weight 0."""
    if formula.both is None or not (torch.is_grad_enabled() and output.requires_grad) or target.requires_grad:
        return None
    if not may_read(output) or output.dtype is not target.dtype or not is_eager(output, target, weight):
        return None
    if weight is not None and (weight.requires_grad or weight.shape != output.shape):
        return None
    whole = float(output.numel()) if weight is None else weight.sum().item()
    if not torch.finfo(output.dtype).tiny <= whole < math.inf:
        return None
    total, slopes = total_and_slopes(formula, output.detach(), target, weight, whole)
    if not math.isfinite(total):
        return None
    definition = partial(plain_quotient, definition, target, weight, whole)
    mean: Tensor = apply_one_piece(total / whole, definition, (slopes,), output)
    return mean


def total_and_slopes(
    formula: Formula, output: Tensor, target: Tensor, weight: Tensor | None, divisor: float
) -> tuple[float, Tensor]:
    """Return sum(w l) in one piece, and the derivative of that over the divisor.

    Args:
        formula: which has value and derivative together.
        output: of any shape; nothing is differentiated here.
        target: of the same.
        weight: one per element, or none.
        divisor: not 0.
    """
    assert formula.both is not None
    into, spare = torch.empty_like(output), torch.empty_like(output)
    if weight is not None:
        values, slopes = formula.both(output, target, into, spare)
        total = torch.dot(values.reshape(-1), weight.reshape(-1)).item()
        # divided first: tiny weights have a tiny sum
        return total, slopes.mul_(torch.mul(weight, 1 / divisor, out=values))
    values, slopes = (formula.nearly or formula.both)(output, target, into, spare)
    total = values.sum().item()
    if formula.nearly is not None and not total >= CERTAIN * output.numel():
        values, slopes = formula.both(output, target, into, spare)
        total = values.sum().item()
    return total, slopes.mul_(1 / divisor)


def whole_weight(output: Tensor, weight: Tensor) -> float:
    """Return the sum of the weights of all elements."""
    require_weight_fits(weight, output.shape)
    return weight.sum().item() * (output.numel() // weight.numel())


def quotient(
    formula: Formula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None, divisor: float
) -> Tensor:
    """Return sum(w l) / divisor."""
    wanted = torch.is_grad_enabled() and output.requires_grad  # inside of a Function it never is
    value: Tensor = BlockSum.apply(formula, definition, wanted, divisor, output, target, weight)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return value


class BlockSum(torch.autograd.Function):
    """The sum, divided, as one operation of autograd; its gradient is written on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        formula: Formula,
        definition: Definition,
        wanted: bool,
        divisor: float,
        output: Tensor,
        target: Tensor,
        weight: Tensor | None,
    ) -> Tensor:
        gradient = gradient_like(output) if wanted else None
        total = total_in_blocks(formula, output, target, weight, gradient, divisor)
        if weight is not None and not math.isfinite(total):  # perhaps by what has weight 0
            total = total_in_blocks(formula, output, target, weight, gradient, divisor, hides=True)
        ctx.definition, ctx.divisor = definition, divisor
        ctx.save_for_backward(output, target, weight, gradient)
        return output.new_tensor(total / divisor)  # infinite where that is beyond its dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        output, target, weight, of_output = ctx.saved_tensors
        if torch.is_grad_enabled():  # of several at once each is a multiple of what was saved
            definition = partial(plain_quotient, ctx.definition, target, weight, ctx.divisor)
            (of_output,) = plain_gradients(definition, gradient, output)
        else:
            of_output = chained(gradient, of_output)
        return None, None, None, None, of_output, None, None


class OnePiece(Written):
    """The mean of all elements at once."""


apply_one_piece = applied_outside_transforms(OnePiece)


def total_in_blocks(
    formula: Formula,
    output: Tensor,
    target: Tensor,
    weight: Tensor | None,
    gradient: Tensor | None,
    divisor: float,
    *,
    hides: bool = False,
) -> float:
    """Return sum(w l), and write the derivative of sum(w l) / divisor where it is wanted."""
    if weight is None and output.numel() <= sizes().block:
        with buffers(output.dtype, output.numel(), 2) as vectors:
            into, spare = (vector[: output.numel()].view(output.shape) for vector in vectors)
            block = Block(output, target, None, None, into, spare)  # in which nothing has to be shared out
            return total_of_block(formula, block, gradient, divisor)
    parts = repeat(None) if gradient is None else shared_out(gradient, weight)
    shared = zip(blocks(output, target, weight, hides), parts, strict=False)
    return sum(total_of_block(formula, block, part, divisor) for block, part in shared)


def total_of_block(formula: Formula, block: Block, gradient: Tensor | None, divisor: float) -> float:
    """Return the same of one block."""
    batch = block.output, block.target
    if gradient is None:
        return block.total(formula.values(*batch, block.buffer, block.spare)).item()
    if formula.nearly is not None:
        values, slopes = formula.nearly(*batch, block.buffer, gradient)  # which takes no more memory than it needs
        total = block.total(values).item()
        if total >= CERTAIN * block.total_weight():
            block.write(slopes, divisor, gradient)
            return total
    if formula.both is not None:
        values, slopes = formula.both(*batch, block.buffer, gradient)
        total = block.total(values).item()
    else:
        total = block.total(formula.values(*batch, block.buffer, block.spare)).item()
        slopes = formula.slopes(*batch, gradient, block.spare)
    block.write(slopes, divisor, gradient)
    return total


class Block(NamedTuple):
    """Some elements of a batch, a vector, or rows with one weight each; and two tensors of their shape to write to, of
    which the first has the values until they were added up."""

    output: Tensor
    target: Tensor
    weight: Tensor | None
    absent: Tensor | None
    buffer: Tensor
    spare: Tensor

    def total(self, values: Tensor) -> Tensor:
        """Return sum(w l)."""
        if self.weight is None:
            return values.sum()
        if self.absent is not None:
            values.masked_fill_(self.absent, 0)
        return torch.dot(values if values.ndim == 1 else values.sum(1), self.weight)

    def total_weight(self) -> float:
        """Return sum(w)."""
        if self.weight is None:
            return self.output.numel()
        return float(self.weight.sum()) * (self.output.numel() // self.weight.numel())

    def write(self, slopes: Tensor, divisor: float, into: Tensor) -> None:
        """Write derivatives times their weights, relative to a divisor; they may be there already."""
        if self.absent is not None:
            slopes.masked_fill_(self.absent, 0)
        if self.weight is not None:  # divided first: tiny weights have a tiny sum
            beside = self.buffer.view(-1)[: len(self.weight)]  # of which the values were added up already
            factors = torch.mul(self.weight, 1 / divisor, out=beside)  # a quotient takes twice the time
            torch.mul(slopes, factors if slopes.ndim == 1 else factors.unsqueeze(1), out=into)
        elif divisor != 1:
            torch.mul(slopes, 1 / divisor, out=into)
        elif slopes is not into:
            into.copy_(slopes)


def blocks(output: Tensor, target: Tensor, weight: Tensor | None, hides: bool) -> Iterator[Block]:
    """Yield one block after the other; what they may write to is the same for all."""
    outputs, targets = shared_out(output, weight), shared_out(target, weight)
    weights = repeat(None) if weight is None else torch.split(weight.reshape(-1), rows_of(output, weight))
    shape = outputs[0].shape
    rows = shape[0]
    with buffers(output.dtype, shape.numel(), 4 if hides else 2) as vectors:
        written = [vector[: shape.numel()].view(shape) for vector in vectors]
        for out, to, by in zip(outputs, targets, weights, strict=False):
            if out.size(0) < rows:  # the last may be smaller; len() takes as long as an operation
                written = [each[: len(out)] for each in written]
            absent = None
            if hides and by is not None:
                absent = (by == 0).reshape(-1, *[1] * (out.ndim - 1))
                out = written[2].copy_(out).masked_fill_(absent, 0)
                to = written[3].copy_(to).masked_fill_(absent, 0)
            yield Block(out, to, by, absent, written[0], written[1])


def shared_out(tensor: Tensor, weight: Tensor | None) -> Sequence[Tensor]:
    """Return the blocks of a tensor."""
    return torch.split(in_rows(tensor, weight), rows_of(tensor, weight))


def in_rows(tensor: Tensor, weight: Tensor | None) -> Tensor:
    """Return all elements as a vector, or the rows that have one weight each."""
    if weight is None or weight.numel() == tensor.numel():
        return tensor.reshape(-1)
    return tensor.reshape(weight.numel(), -1)


def rows_of(tensor: Tensor, weight: Tensor | None) -> int:
    """Return how many weights, or elements, a block takes: all where two blocks would hold more than there are."""
    each = 1 if weight is None else tensor.numel() // weight.numel()
    block = sizes().block
    return max(1, max(block, tensor.numel()) // each) if tensor.numel() < 2 * block else max(1, block // each)


def plain_quotient(
    definition: Definition, target: Tensor, weight: Tensor | None, divisor: float, output: Tensor
) -> Tensor:
    """Return sum(w l) / divisor as the plain composition has it; what has weight 0 is hidden."""
    if weight is None:
        return definition(output, target).sum() / divisor
    items = definition(masked(output, weight), masked(target, weight))
    return weighted(items, weight / divisor).sum()
