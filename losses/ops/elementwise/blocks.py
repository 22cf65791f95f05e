"""Sums over elements in blocks that stay in a processor's cache, with the derivative by hand.

Large temporaries are what a plain composition takes its time for: each is fresh memory that is written, read and handed
back. Here two buffers take the values of one block after the other, and backward goes through the blocks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.inputs.kind import masked
from losses.core.reduction import hides_nothing, require_weight_fits, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.buffers import buffers
from losses.ops.elementwise.formulas import Formula
from losses.ops.tiles.sizes import sizes

Definition = Callable[[Tensor, Tensor], Tensor]


def suits_blocks(output: Tensor, target: Tensor, weight: Tensor | None = None, *, fused: bool = False) -> bool:
    """Return whether blocks are worth while and may answer: for many elements on a CPU, where nobody traces, transforms
    or wants a derivative by something else than the output; for more of them where there is a ``fused`` function."""
    if not may_read(output):  # asked first: where a program is made for any size, a size that is asked is a limit
        return False
    least = sizes().in_blocks
    if fused:
        least = sizes().in_blocks_fused if weight is None else sizes().in_blocks_fused_weighted
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
    if weight is not None:
        require_weight_fits(weight, output.shape)
    total: Tensor = BlockSum.apply(formula, definition, output, target, weight)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return total


class BlockSum(torch.autograd.Function):
    """The sum as one operation of autograd."""

    @staticmethod
    def forward(
        ctx: Any, formula: Formula, definition: Definition, output: Tensor, target: Tensor, weight: Tensor | None
    ) -> Tensor:
        ctx.formula, ctx.definition = formula, definition
        ctx.hides = weight is not None and not hides_nothing(weight)
        ctx.save_for_backward(output, target, weight)
        total = 0.0
        for block in blocks(output, target, weight, ctx.hides):
            values = formula.values(block.output, block.target, block.buffer, block.spare)
            total += float(block.total(values))
        return output.new_tensor(total)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        output, target, weight = ctx.saved_tensors
        if is_asked_again(gradient):
            definition = partial(plain_sum, ctx.definition, target, weight)
            return None, None, *plain_gradients(definition, gradient, output), None, None
        of_output = torch.empty_like(output, memory_format=torch.contiguous_format)
        parts = shared_out(of_output, weight)
        for block, part in zip(blocks(output, target, weight, ctx.hides), parts, strict=True):
            ctx.formula.slopes(block.output, block.target, part, block.spare)
            block.scale_(part, gradient)
        return None, None, of_output, None, None


class Block(NamedTuple):
    """Some elements of a batch, a vector, or rows with one weight each; and two tensors of their shape to write to."""

    output: Tensor
    target: Tensor
    weight: Tensor | None
    absent: Tensor | None
    buffer: Tensor
    spare: Tensor
    factors: Tensor | None
    """Likewise, of the weight's shape."""

    def total(self, values: Tensor) -> Tensor:
        """Return sum(w l)."""
        if self.weight is None:
            return values.sum()
        if self.absent is not None:
            values.masked_fill_(self.absent, 0)
        return torch.dot(values if values.ndim == 1 else values.sum(1), self.weight)

    def scale_(self, slopes: Tensor, gradient: Tensor) -> None:
        """Multiply derivatives by their weights and by what comes from above."""
        if self.weight is None:
            slopes.mul_(gradient)
            return
        if self.absent is not None:
            slopes.masked_fill_(self.absent, 0)
        factors = torch.mul(self.weight, gradient, out=self.factors)  # first: tiny weights are divided by a tiny sum
        slopes.mul_(factors if slopes.ndim == 1 else factors.unsqueeze(1))


def blocks(output: Tensor, target: Tensor, weight: Tensor | None, hides: bool) -> Iterator[Block]:
    """Yield one block after the other; what they may write to is the same for all."""
    outputs, targets = shared_out(output, weight), shared_out(target, weight)
    weights = [None] * len(outputs) if weight is None else torch.split(weight.reshape(-1), rows_of(output, weight))
    with buffers(output.dtype, outputs[0].numel(), 5 if hides else 3) as (buffer, spare, factors, *copies):
        for out, to, by in zip(outputs, targets, weights, strict=True):
            written = [each[: out.numel()].view(out.shape) for each in (buffer, spare, *copies)]
            absent = None
            if hides and by is not None:
                absent = (by == 0).reshape(-1, *[1] * (out.ndim - 1))
                out = written[2].copy_(out).masked_fill_(absent, 0)
                to = written[3].copy_(to).masked_fill_(absent, 0)
            first, second = written[:2]
            yield Block(out, to, by, absent, first, second, None if by is None else factors[: len(by)])


def shared_out(tensor: Tensor, weight: Tensor | None) -> Sequence[Tensor]:
    """Return the blocks of a tensor."""
    if weight is None or weight.numel() == tensor.numel():
        return torch.split(tensor.reshape(-1), rows_of(tensor, weight))
    return torch.split(tensor.reshape(weight.numel(), -1), rows_of(tensor, weight))


def rows_of(tensor: Tensor, weight: Tensor | None) -> int:
    """Return how many weights, or elements, a block takes."""
    each = 1 if weight is None else tensor.numel() // weight.numel()
    return max(1, sizes().block // each)


def plain_sum(definition: Definition, target: Tensor, weight: Tensor | None, output: Tensor) -> Tensor:
    """Return sum(w l) as the plain composition has it; what has weight 0 is hidden."""
    if weight is None:
        return definition(output, target).sum()
    return weighted(definition(masked(output, weight), masked(target, weight)), weight).sum()
