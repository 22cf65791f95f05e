"""Blocks of anchors that know their classes: the positives of every anchor beside all that it is compared with.

Most losses of labelled batches are sums over anchors of something made from an anchor's positives ``(P,)`` and its
negatives among all others ``(M,)``. A tiled function of such a loss goes through :func:`anchor_blocks`, adds up rows
with :meth:`AnchorBlock.total`, and hands the derivatives by both back with :meth:`AnchorBlock.accumulate_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from losses.core.device import on_cpu
from losses.core.reduction import weighted
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.sizes import sizes

Costs = tuple[Tensor, Sequence[Tensor]]
"""Values of items ``(T,)`` or of anchors ``(B, 1)``, and the derivatives by what they are made of."""


class AnchorBlock:
    """The rows of one block, as anchors.

    Args:
        tile: the block.
        classes: of its rows and columns.
        weight: of every row ``(N, 1)``; ``None`` is 1.
        values: of the block, if not those of the tile.

    ``values`` ``(B, M)`` are the distances or similarities to everyone, ``positives`` ``(B, P)`` a copy of those within
    the class, of which those that ``exists`` ``(B, P)`` are meant. A positive beyond the range of the dtype is
    infinitely far, a negative as far as can be told: the difference is infinite, where it would be NaN.
    """

    def __init__(
        self, tile: Tile, classes: Classes, weight: Tensor | None = None, values: Tensor | None = None
    ) -> None:
        self.tile, self.rows, self.classes = tile, tile.rows, classes
        self.weight = None if weight is None else weight[self.rows]
        self.values = tile.values if values is None else values
        self.column, self.exists = classes.positive_columns(tile)
        self.positives = self.values.gather(1, self.column)
        if tile.exact is not None:  # where distances can be infinite
            self.values.clamp_(max=torch.finfo(self.values.dtype).max)

    @cached_property
    def band(self) -> slice:
        """Columns of the block outside of which there are only negatives."""
        return self.classes.band(self.tile)

    @cached_property
    def own(self) -> Tensor:
        """Which entries of the band are of the anchor's own class, itself included."""
        return self.classes.own(self.tile, self.band)

    def fill_own(self, value: float, values: Tensor | None = None) -> Tensor:
        """Set the entries of the anchor's own class, itself included, and return the block: of negatives, and this."""
        values = self.values if values is None else values
        values[:, self.band].masked_fill_(self.own, value)
        return values

    def restore_own(self) -> None:
        """Write the positives back into the block; the anchor itself gets some finite number, as its derivative is
        0."""
        self.fill_own(0).scatter_add_(1, self.column, self.positives.masked_fill(~self.exists, 0))
        self.tile.at_itself(self.values, 1)

    def scratch(self, number: int) -> Tensor:
        """Return a buffer in the shape of the block: 1, 2, ..."""
        return self.tile.scratch(number)

    def total(self, rows: Tensor) -> Tensor:
        """Return the sum of numbers of the rows ``(B, ...)``, weighted, in float64."""
        return exact_sum(rows, self.weight)

    def accumulate_gradient(self, of_values: Tensor, of_positives: Tensor) -> None:
        """Add derivatives by the block ``(B, M)``, 0 at the own class, and by the positives ``(B, P)``, 0 where none
        exist, weighted, to the gradient of the points; the first is overwritten."""
        gradient = of_values.scatter_add_(1, self.column, of_positives)
        self.tile.accumulate_gradient(gradient if self.weight is None else gradient.mul_(self.weight))

    def accumulate_weighted(self, of_positives: Tensor, of_negatives: Tensor) -> None:
        """Add derivatives that are weighted already, whatever they are where nothing is meant, after :meth:`fill_own`
        has overwritten the block."""
        self.restore_own()
        gradient = of_negatives[:, : self.values.shape[1]].contiguous()
        gradient[:, self.band].masked_fill_(self.own, 0)
        of_positives = of_positives[:, : self.column.shape[1]].masked_fill(~self.exists, 0)
        self.tile.accumulate_gradient(gradient.scatter_add_(1, self.column, of_positives))


def anchor_blocks(tiles: Tiles, classes: Classes, weight: Tensor | None) -> Iterator[AnchorBlock]:
    """Yield the blocks of rows as anchors, with the weight of every row ``(N, 1)``."""
    for tile in tiles:
        yield AnchorBlock(tile, classes, weight)


def strips(block: Tensor) -> Iterator[slice]:
    """Yield rows of a block ``(B, M)``, so few at a time that they stay in a cache while several operations go over
    them; all at once where no CPU computes."""
    step = max(1, sizes().strip_of_block // max(1, block.shape[1]) if on_cpu(block) else len(block))
    for start in range(0, len(block), step):
        yield slice(start, start + step)


def exact_sum(rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the sum of numbers ``(B, ...)``, times the weight of their row ``(B, 1)``, its rows added up in
    float64."""
    rows = rows if rows.shape[1:] == (1,) else rows.sum(1, keepdim=True)
    return (rows if weight is None else weighted(rows, weight)).sum(dtype=torch.float64)


def no_sum(tiles: Tiles) -> Tensor:
    """Return a sum of 0 to add to."""
    return torch.zeros((), dtype=torch.float64, device=tiles.first.device)


def by_autograd(
    function: Callable[..., Tensor], arguments: Sequence[Tensor], slopes: Tensor | None, *, wanted: bool = True
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return what a function makes of its arguments, and the derivatives by them, times ``slopes`` of the result.

    What is saved on the way is used up here: a caller's hooks on saved tensors would move it elsewhere, or a checkpoint
    repeat it.
    """
    with torch.enable_grad(), unseen():
        leaves = [argument.detach().requires_grad_(wanted) for argument in arguments]
        result = function(*leaves)
        if not wanted:
            return result, ()
        slopes = torch.ones_like(result) if slopes is None else slopes.to(result.dtype)
        gradients = torch.autograd.grad(result, leaves, slopes, allow_unused=True, materialize_grads=True)
    return result.detach(), gradients


@contextmanager
def unseen() -> Iterator[None]:
    """Keep what is saved for a derivative from the caller's hooks."""
    with ExitStack() as stack:
        with suppress(RuntimeError):  # hooks are not allowed here, so there are none
            stack.enter_context(saved_tensors_hooks(Tensor.detach, Tensor.detach))
        yield
