"""Sums over all pairs of two sets, differentiable: a tiled function whose gradient is known as soon as its value is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.precision import accumulation_dtype
from losses.ops.derivatives import plain_gradients
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.sizes import sizes


class TileSums(NamedTuple):
    """What a tiled function adds up: K sums, and what each of their means is divided by."""

    sums: Sequence[Tensor]
    denominators: Sequence[Tensor]


TiledFunction = Callable[[Tiles], TileSums]
Definition = Callable[..., Tensor]


def over_tiles(
    function: TiledFunction,
    definition: Definition,
    first: Tensor,
    second: Tensor | None,
    measure: str,
    *,
    precise: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Return the sums of a tiled function ``(K,)``, differentiable, and their denominators ``(K,)``, in float64.

    Args:
        function: goes through the tiles, sums, and hands every block's derivative back.
        definition: the same sums ``(K,)`` as a plain composition of ``first`` (and ``second``); it answers for second
            derivatives.
        first: ``(N, D)``.
        second: ``(M, D)``; ``None`` compares the first with itself.
        measure: and further options: see :class:`losses.ops.tiles.blocks.Tiles`.
        precise: whether the tiles are in the precision of the accumulation whatever their size.
    """
    wanted = torch.is_grad_enabled()  # inside of a Function it never is
    outputs: tuple[Tensor, Tensor] = Blockwise.apply(
        function, definition, measure, options, precise, wanted, first, second
    )  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return outputs


class Blockwise(torch.autograd.Function):
    """A tiled function as one operation of autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        function: TiledFunction,
        definition: Definition,
        measure: str,
        options: Any,
        precise: bool,
        wanted: bool,
        first: Tensor,
        second: Tensor | None,
    ) -> Any:
        *_, of_first, of_second = ctx.needs_input_grad
        others = first if second is None else second
        precise = precise or len(first) * len(others) <= sizes().exact
        dtype = accumulation_dtype(first) if precise else first.dtype
        tiles = Tiles(
            *(first, second, measure),
            dtype=dtype,
            differentiable=(wanted and of_first, wanted and of_second),
            **options,
        )
        sums, denominators = (torch.stack(list(column)) for column in function(tiles))
        ctx.definition = definition
        ctx.itself = second is None
        gradients = (None if part is None else part.to(first.dtype) for part in tiles.gradients())
        ctx.save_for_backward(first, second, *gradients)
        ctx.mark_non_differentiable(denominators)
        return sums.to(first.dtype), denominators

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        return None, None, None, None, None, None, *gradients_of_points(ctx, gradient)


def gradients_of_points(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients by both sets of points of sums that were saved with theirs."""
    first, second, of_first, of_second = ctx.saved_tensors
    if torch.is_grad_enabled():  # several at once can be had of what was saved
        of_first, of_second = plain_gradients(ctx.definition, gradient, first, second)
        return of_first, of_second
    of_points = [None if part is None else chained(gradient, part) for part in (of_first, of_second)]
    return of_points[0], None if ctx.itself else of_points[1]


def chained(gradient: Tensor, parts: Tensor) -> Tensor:
    """Return the gradient by the points: of K sums ``(K, N, D)``, each times what comes from above ``(K,)``."""
    return gradient * parts[0] if len(parts) == 1 else torch.tensordot(gradient, parts, 1)
