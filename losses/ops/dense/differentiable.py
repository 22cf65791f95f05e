"""Sums and means over a dense matrix, differentiable: the gradient is taken by hand as soon as the value is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.ops.dense.matrix import DenseMatrix, is_small


class DenseSums(NamedTuple):
    """K sums over a matrix, what each of their means is divided by, and their derivatives by the matrix; of a single
    sum all three are without the dimension of K."""

    sums: Tensor
    """``()`` or ``(K,)``."""
    denominators: Tensor | int
    """``()`` or ``(K,)``."""
    slopes: Tensor | None = None
    """``(N, M)`` or ``(K, N, M)``, 0 where a point meets itself; ``None`` where nothing is differentiated."""

    def mean(self) -> DenseSums:
        """Return the sum of the means over items that count as 1 each, where the mean of none is 0."""
        sums, denominators, slopes = self
        if isinstance(denominators, int):
            denominators = max(1, denominators)
        else:
            denominators = denominators.clamp(min=1)
            if denominators.ndim:
                slopes = None if slopes is None else (slopes / denominators.view(-1, 1, 1)).sum(0)
                return DenseSums((sums / denominators).sum(), 1, slopes)
        return DenseSums(sums / denominators, 1, None if slopes is None else slopes.div_(denominators))


def over_matrix(
    function: Callable[[DenseMatrix], DenseSums | None],
    definition: Callable[..., Tensor],
    first: Tensor,
    second: Tensor | None,
    measure: str,
    *,
    mean: bool = False,
) -> DenseSums | None:
    """Return the sums of a dense function, differentiable, or the sum of their means if ``mean``; ``None`` where the
    sets are not small, a product cannot tell their points apart, or the function does not do it.

    Args:
        function: sums, counts and derives.
        definition: what is returned as a plain composition of ``first`` (and ``second``); it answers for second
            derivatives.
        first, second, measure: see :class:`losses.ops.dense.matrix.DenseMatrix`.
        mean: over items that count as 1 each.
    """
    others = first if second is None else second
    if not is_small(first, others):
        return None
    wanted = torch.is_grad_enabled() and (first.requires_grad or others.requires_grad)
    with torch.no_grad():
        matrix = DenseMatrix(first, second, measure, differentiable=wanted)
        if not matrix.tells:
            return None
        result = function(matrix)
        if result is None:
            return None
        result = result.mean() if mean else result
        sums, _, slopes = result
        sums = sums.to(first.dtype)
        gradients = None if slopes is None else matrix.gradients(slopes)
    if gradients is not None:
        sums = Derived.apply(sums.detach, gradients, definition, first, second)  # type: ignore[no-untyped-call]
    return DenseSums(sums, result.denominators)


class Derived(torch.autograd.Function):
    """A value whose gradients are known already, as one operation of autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Callable[[], Tensor],
        gradients: tuple[Tensor, Tensor | None],
        definition: Callable[..., Tensor],
        first: Tensor,
        second: Tensor | None,
    ) -> Tensor:
        ctx.definition = definition
        of_points = (None if part is None else part.to(first.dtype) for part in gradients)
        ctx.save_for_backward(first, second, *of_points)
        return value()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second, *of_points = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone will differentiate this gradient: give one that can be
            points = [first] if second is None else [first, second]
            wanted = [point for point in points if point.requires_grad]
            results = iter(torch.autograd.grad(ctx.definition(*points), wanted, gradient, create_graph=True))
            of_points = [next(results) if point.requires_grad else None for point in points]
        else:
            of_points = [None if part is None else chained(gradient, part) for part in of_points]
        return None, None, None, of_points[0], None if second is None else of_points[1]


def chained(gradient: Tensor, part: Tensor) -> Tensor:
    """Return the gradient by the points: that of every sum, times what comes from above."""
    return torch.tensordot(gradient, part, 1) if gradient.ndim else gradient * part
