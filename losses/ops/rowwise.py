"""What matching rows measure, in few operations: the readable definition is in :mod:`losses.ops.distances`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.core.precision import accumulation_dtype
from losses.ops.derivatives import is_asked_again, plain_gradients
from losses.ops.distances import measured_rowwise
from losses.ops.eager import is_eager


def measured_side_by_side(first: Tensor, second: Tensor, measure: str) -> Tensor:
    """Return the similarity or distance of each row of ``first`` ``(N, D)`` to the same row of ``second``, ``(N,)``."""
    if measure.endswith("euclidean") and first.device.type == "cpu" and is_eager(first, second):
        values: Tensor = SideBySide.apply(first, second, measure)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
        return values
    return measured_rowwise(first, second, measure)


class SideBySide(torch.autograd.Function):
    """Euclidean distances of matching rows, or their squares, with the gradient by hand."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, measure: str) -> Tensor:
        differences = first - second
        lengths = torch.linalg.vector_norm(differences, dim=-1, dtype=accumulation_dtype(first))
        ctx.measure = measure
        ctx.save_for_backward(first, second, differences, lengths)
        values: Tensor = lengths if measure == "euclidean" else lengths.square()
        return values.to(first.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, differences, lengths = ctx.saved_tensors
        if is_asked_again(gradient):
            definition = partial(measured_rowwise, measure=ctx.measure)
            return *plain_gradients(definition, gradient, first, second), None
        if ctx.measure == "euclidean":
            slopes = (gradient / lengths.masked_fill(lengths == 0, torch.inf)).to(first.dtype)
        else:
            slopes = 2 * gradient
        moves = differences * slopes.unsqueeze(-1)
        return moves if ctx.needs_input_grad[0] else None, -moves if ctx.needs_input_grad[1] else None, None
