"""What the pairs that indices name measure: from the matrix of all or from rows, with the gradient by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.device import on_cpu
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.distances import measured, measured_rowwise
from losses.ops.eager import is_eager
from losses.ops.indexed.lists import are_many
from losses.ops.indexed.matrix import matrix_of
from losses.ops.rowwise import measured_side_by_side


def measured_at(first: Tensor, second: Tensor | None, row: Tensor, column: Tensor, measure: str) -> Tensor:
    """Return what each row of ``first`` that is named measures to the row of ``second`` named with it, ``(P,)``.

    Args:
        first: ``(N, D)``.
        second: ``(M, D)``; ``None`` is the first.
        row, column: of each pair ``(P,)``.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
    """
    others = first if second is None else second
    if is_eager(first, second) and on_cpu(first):
        if are_many(len(row), first, others):
            values: Tensor = FromMatrix.apply(first, second, row, column, measure)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
            return values
        return measured_side_by_side(first.index_select(0, row), others.index_select(0, column), measure)
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
        if is_asked_again(gradient):

            def definition(first: Tensor, second: Tensor | None = None) -> Tensor:
                return plainly_measured_at(first, first if second is None else second, row, column, ctx.measure)

            return *plain_gradients(definition, gradient, first, second), None, None, None
        matrix = matrix_of(first, second, ctx.measure, ctx.needs_input_grad[:2])
        of_values = torch.zeros_like(matrix.values).unsqueeze(0)
        place = torch.add(column, row, alpha=matrix.values.shape[1])
        of_values.view(-1).scatter_add_(0, place, gradient.to(of_values.dtype))
        parts = matrix.gradients(of_values)
        return *(None if part is None else part[0].to(first.dtype) for part in parts), None, None, None
