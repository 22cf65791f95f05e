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
from losses.core.torch_private import graph_is_kept, may_read
from losses.ops.derivatives import chained, is_asked_again, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.buffers import buffers, gradient_like
from losses.ops.elementwise.formulas import Formula
from losses.ops.tiles.sizes import sizes

Definition = Callable[[Tensor, Tensor], Tensor]


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


def mean_of_few(formula: Formula, definition: Definition, output: Tensor, target: Tensor) -> Tensor | None:
    """Return the plain mean of too few elements for blocks, where a formula has value and derivative together; ``None``
    where only the plain composition may answer, or nobody asks for its gradient."""
    if formula.both is None or not (torch.is_grad_enabled() and output.requires_grad) or target.requires_grad:
        return None
    if not may_read(output) or output.dtype is not target.dtype or not is_eager(output, target):
        return None
    mean: Tensor = FewMean.apply(formula.both, definition, output, target)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return mean


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


class FewMean(torch.autograd.Function):
    """The mean of all elements in one piece."""

    @staticmethod
    def forward(ctx: Any, both: Callable[..., Any], definition: Definition, output: Tensor, target: Tensor) -> Tensor:
        values, slopes = both(output, target, torch.empty_like(output), torch.empty_like(output))
        ctx.definition = definition
        ctx.save_for_backward(output, target, slopes)
        return values.mean()  # type: ignore[no-any-return]  # of a formula, which may be anything

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        output, target, slopes = ctx.saved_tensors
        if is_asked_again(gradient):
            definition = partial(plain_quotient, ctx.definition, target, None, float(output.numel()))
            return None, None, *plain_gradients(definition, gradient, output), None
        factor = gradient / output.numel()
        return None, None, slopes * factor if graph_is_kept() else slopes.mul_(factor), None


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
    both = formula.both_for(weight)
    if weight is None and both is not None and output.numel() <= sizes().block:
        return total_of_one_block(formula, output, target, gradient, divisor)
    total = 0.0
    parts = repeat(None) if gradient is None else shared_out(gradient, weight)
    for block, part in zip(blocks(output, target, weight, hides), parts, strict=False):
        if part is not None and both is not None:
            values, slopes = both(block.output, block.target, block.buffer, block.spare)
        else:
            values, slopes = formula.values(block.output, block.target, block.buffer, block.spare), None
        total += block.total(values).item()
        if part is not None:
            if slopes is None:
                slopes = formula.slopes(block.output, block.target, part, block.spare)
            block.write(slopes, divisor, part)
    return total


def total_of_one_block(
    formula: Formula, output: Tensor, target: Tensor, gradient: Tensor | None, divisor: float
) -> float:
    """Return the same where one block holds everything, for which nothing has to be shared out."""
    with buffers(output.dtype, output.numel(), 2) as vectors:
        first, second = (vector[: output.numel()].view(output.shape) for vector in vectors)
        if gradient is None:
            return float(formula.values(output, target, first, second).sum())
        both = formula.both_for(None)
        assert both is not None  # one block is made of fewest operations so
        values, slopes = both(output, target, first, gradient)
        torch.mul(slopes, 1 / divisor, out=gradient)
        return float(values.sum())


class Block(NamedTuple):
    """Some elements of a batch, a vector, or rows with one weight each; and two tensors of their shape to write to."""

    output: Tensor
    target: Tensor
    weight: Tensor | None
    absent: Tensor | None
    buffer: Tensor
    spare: Tensor
    factors: Tensor
    """Likewise, of the weight's shape."""

    def total(self, values: Tensor) -> Tensor:
        """Return sum(w l)."""
        if self.weight is None:
            return values.sum()
        if self.absent is not None:
            values.masked_fill_(self.absent, 0)
        return torch.dot(values if values.ndim == 1 else values.sum(1), self.weight)

    def write(self, slopes: Tensor, divisor: float, into: Tensor) -> None:
        """Write derivatives times their weights, relative to a divisor; they may be there already."""
        if self.absent is not None:
            slopes.masked_fill_(self.absent, 0)
        if self.weight is not None:  # divided first: tiny weights have a tiny sum
            factors = torch.div(self.weight, divisor, out=self.factors)
            torch.mul(slopes, factors if slopes.ndim == 1 else factors.unsqueeze(1), out=into)
        elif divisor != 1:  # a product takes half the time of a quotient
            torch.mul(slopes, 1 / divisor, out=into)
        elif slopes is not into:
            into.copy_(slopes)


def blocks(output: Tensor, target: Tensor, weight: Tensor | None, hides: bool) -> Iterator[Block]:
    """Yield one block after the other; what they may write to is the same for all."""
    outputs, targets = shared_out(output, weight), shared_out(target, weight)
    weights = repeat(None) if weight is None else torch.split(weight.reshape(-1), rows_of(output, weight))
    shape = outputs[0].shape
    with buffers(output.dtype, shape.numel(), 5 if hides else 3) as vectors:
        written = [vector[: shape.numel()].view(shape) for vector in vectors]
        factors = vectors[2][: len(outputs[0])]
        for out, to, by in zip(outputs, targets, weights, strict=False):
            if len(out) < len(factors):  # the last may be smaller
                written, factors = [each[: len(out)] for each in written], factors[: len(out)]
            absent = None
            if hides and by is not None:
                absent = (by == 0).reshape(-1, *[1] * (out.ndim - 1))
                out = written[3].copy_(out).masked_fill_(absent, 0)
                to = written[4].copy_(to).masked_fill_(absent, 0)
            yield Block(out, to, by, absent, written[0], written[1], factors)


def shared_out(tensor: Tensor, weight: Tensor | None) -> Sequence[Tensor]:
    """Return the blocks of a tensor."""
    if weight is None or weight.numel() == tensor.numel():
        return torch.split(tensor.reshape(-1), rows_of(tensor, weight))
    return torch.split(tensor.reshape(weight.numel(), -1), rows_of(tensor, weight))


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
