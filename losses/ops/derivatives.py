"""What a derivative by hand hands over to the plain composition: to be differentiated again, or several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.core.torch_private import graph_is_kept, is_batched_gradient, may_read, transforms_are_active


def is_asked_again(gradient: Tensor) -> bool:
    """Return whether, in a backward pass, someone will differentiate the result, or asks for several at once."""
    return torch.is_grad_enabled() or is_batched_gradient(gradient)


def plain_gradients(
    definition: Callable[..., Tensor], gradient: Tensor, *points: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return the gradients by points, ``None`` where none is asked for, as a function that can be differentiated.

    Args:
        definition: the value as a plain composition of those points that are there.
        gradient: what comes from above.
        points: each is taken for itself: one of them may have been made from another.
    """
    with torch.enable_grad():
        own = [None if point is None else point.view_as(point) for point in points]
        value = definition(*(point for point in own if point is not None))
        wanted = [point for point in own if point is not None and point.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, gradient, create_graph=True))
    return tuple(next(found) if point is not None and point.requires_grad else None for point in own)


def chained(gradient: Tensor, part: Tensor) -> Tensor:
    """Return a gradient that was written in forward, times what comes from above; in the same memory where nobody will
    ask for it again, and nobody was given it before."""
    return all_chained(gradient, part)[0]


def all_chained(gradient: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Return several likewise."""
    if graph_is_kept() or transforms_are_active() or is_batched_gradient(gradient) or not may_read(gradient):
        return tuple(part * gradient for part in parts)
    factor = gradient.item()
    return parts if factor == 1 else tuple(part.mul_(factor) for part in parts)


class Written(torch.autograd.Function):
    """A value whose gradients by several tensors were made with it."""

    @staticmethod
    def forward(
        ctx: Any, value: float, definition: Callable[..., Tensor], slopes: Sequence[Tensor | None], *leaves: Tensor
    ) -> Tensor:
        ctx.definition, ctx.slopes = definition, slopes
        ctx.save_for_backward(*leaves)
        return torch.scalar_tensor(value, dtype=leaves[0].dtype, device=leaves[0].device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        leaves, slopes = ctx.saved_tensors, ctx.slopes
        if torch.is_grad_enabled():
            return None, None, None, *plain_gradients(ctx.definition, gradient, *leaves)
        if not graph_is_kept():
            ctx.slopes = None  # what nobody else holds is taken for the gradient as it is, and not copied
        if all(ctx.needs_input_grad[3:]):
            return None, None, None, *all_chained(gradient, *slopes)
        needed = zip(slopes, ctx.needs_input_grad[3:], strict=True)
        return None, None, None, *(chained(gradient, part) if wanted else None for part, wanted in needed)
