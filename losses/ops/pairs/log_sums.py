"""Logarithms of sums of exponentials over the rows of a block, left behind as what their derivative is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.numerics.log_space import exponentials_below
from losses.ops.tiles.blocks import Tile
from losses.ops.tiles.rows import strips

# scale up to which similarities need no shift before they are exponents: float32 ends at exp(88)
MODEST = 60.0


def log_sum(logits: Tensor, *, sparse: bool = False) -> tuple[Tensor, Tensor]:
    """Return log(sum(exp(.))) of every row ``(B, 1)`` and the factor that makes the row, exp(.) from now on, its
    softmax.

    A row of nothing but -inf has the sum -inf and the factor 0. Where many entries are -inf, say so: it is faster.
    """
    if not logits.shape[1]:
        return logits.new_full((len(logits), 1), -torch.inf), logits.new_zeros(len(logits), 1)
    top = logits.amax(1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0)
    shifted = logits.sub_(top)
    total = (exponentials_below(shifted) if sparse else shifted.exp_()).sum(1, keepdim=True)
    return total.log() + top, (1 / total).masked_fill_(total == 0, 0)


def exponentiated(tile: Tile) -> Tensor:
    """Return the exponentials of a block in place: of each pair once, or of both its orders where there is one
    block."""
    exponentials = tile.values.exp_()
    if tile.tiles.upper and not tile.tiles.is_one_block:
        exponentials[:, : len(exponentials)].triu_(1)
    return exponentials


def times_sums(block: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """Return a block times a number of its row ``(B, 1)`` plus a number of its column ``(1, M)``, in place."""
    for strip in strips(block):
        block[strip].mul_(of_rows[strip] + of_columns)  # and not *=, which writes it to its place once more
    return block
