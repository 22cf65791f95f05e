"""What the pairs that indices name measure: from the matrix of all or from rows, with the gradient by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.precision import accumulation_dtype
from losses.core.torch_private import is_batched_gradient
from losses.ops.distances import measured, measured_rowwise
from losses.ops.eager import is_eager
from losses.ops.indexed.lists import are_many
from losses.ops.indexed.matrix import matrix_of


def measured_at(first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
    """Return what each row of ``first`` that is named measures to the row of ``second`` named with it, ``(P,)``.

    Args:
        first: ``(N, D)``.
        second: ``(M, D)``; ``None`` is the first.
        row, column: of each pair ``(P,)``.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
    """
    others = first if second is None else second
    if is_eager(first, second) and first.device.type == "cpu":
        way = FromMatrix if are_many(len(row), first, others) else FromRows if measure.endswith("euclidean") else None
        if way is not None:
            values: Tensor = way.apply(first, second, row, column, measure)  # type: ignore[no-untyped-call]
            return values
    return plainly_measured_at(first, others, row, column, measure)


def plainly_measured_at(first: Tensor, second: Tensor, row: Tensor, column: Tensor, measure: str) -> Tensor:
    """Return the same as a plain composition."""
    # a compiler would have to be told which of them: it makes one program for lists of any length
    if is_compiling() or are_many(len(row), first, second):
        return measured(first, second, measure)[row, column]
    return measured_rowwise(first[row], second[column], measure)


class FromMatrix(torch.autograd.Function):
    """What many pairs measure: picked out of the matrix of all, which is made again for the gradient."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column)
        matrix = matrix_of(first, second, measure, (False, False))
        place = torch.add(column, row, alpha=matrix.values.shape[1])
        return matrix.values.view(-1).index_select(0, place).to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched_gradient(gradient):
            return plain_gradients(ctx, gradient)
        matrix = matrix_of(first, second, ctx.measure, ctx.needs_input_grad[:2])
        of_values = torch.zeros_like(matrix.values).unsqueeze(0)
        place = torch.add(column, row, alpha=matrix.values.shape[1])
        of_values.view(-1).scatter_add_(0, place, gradient.to(of_values.dtype))
        parts = matrix.gradients(of_values)
        return *(None if part is None else part[0].to(first.dtype) for part in parts), None, None, None


class FromRows(torch.autograd.Function):
    """How far apart the two points of a few pairs are: from the rows of both."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
        others = first if second is None else second
        differences = first.index_select(0, row) - others.index_select(0, column)
        lengths = torch.linalg.vector_norm(differences, dim=1, dtype=accumulation_dtype(first))
        ctx.measure = measure
        ctx.save_for_backward(first, second, row, column, differences, lengths)
        values: Tensor = lengths if measure == "euclidean" else lengths.square()
        return values.to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, row, column, differences, lengths = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched_gradient(gradient):
            return plain_gradients(ctx, gradient)
        slopes = 2 * gradient
        if ctx.measure == "euclidean":
            slopes = (gradient / lengths.masked_fill(lengths == 0, torch.inf)).to(first.dtype)
        moves = differences * slopes.unsqueeze(1)
        of_first = of_second = None
        if ctx.needs_input_grad[0]:
            of_first = torch.zeros_like(first).index_add_(0, row, moves)
            if second is None:
                of_first.index_add_(0, column, moves, alpha=-1)
        if ctx.needs_input_grad[1]:
            of_second = torch.zeros_like(second).index_add_(0, column, moves, alpha=-1)
        return of_first, of_second, None, None, None


def plain_gradients(ctx: Any, gradient: Tensor) -> Any:
    """Return gradients of what pairs measure that can be differentiated once more, or of several at once."""
    first, second, row, column = ctx.saved_tensors[:4]
    with torch.enable_grad():
        values = plainly_measured_at(first, first if second is None else second, row, column, ctx.measure)
        points = [point for point in (first, second) if point is not None and point.requires_grad]
        found = iter(torch.autograd.grad(values, points, gradient, create_graph=True))
    wanted = [point is not None and point.requires_grad for point in (first, second)]
    return *(next(found) if asked else None for asked in wanted), None, None, None
