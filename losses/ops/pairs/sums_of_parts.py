"""What both ends of pairs add up, of a part of a batch: the sums are known only when other parts have added theirs.

So value and derivative are made at different times: forward goes through the blocks to sum, and backward, when it is
known by how much the costs depend on the sums, goes through them once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.ops.derivatives import plain_gradients
from losses.ops.distances import cosine_similarity
from losses.ops.pairs.by_pairs import ByPairs, hand_back, pair_blocks, sums_of_ends
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes


class SharedSums(NamedTuple):
    """How a loss is made from what both ends of a pair add up.

    Args:
        loss: from the classes of anchors and others to what anchors and pairs cost.
        scale: multiplies similarities.
    """

    loss: Callable[[Classes], ByPairs]
    scale: float


class Part(NamedTuple):
    """Some pairs of a batch: of the first ``(N, D)`` with the second ``(M, D)``, or, where that is ``None``, with one
    another."""

    first: Tensor
    labels: Tensor
    second: Tensor | None = None
    other_labels: Tensor | None = None


def sums_of_part(shared: SharedSums, part: Part) -> Tensor:
    """Return what every row, and then every other, adds up in a part of a batch ``(N + M, 2)``: exponentials, and of
    positives. Differentiable, in float64."""
    sums: Tensor = SumsOfPart.apply(shared, part.labels, part.other_labels, part.first, part.second)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
    return sums


class SumsOfPart(torch.autograd.Function):
    """Sums over the pairs of a part as one operation of autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        shared: SharedSums,
        labels: Tensor,
        other_labels: Tensor | None,
        first: Tensor,
        second: Tensor | None,
    ) -> Tensor:
        ctx.shared, ctx.labels, ctx.other_labels = shared, labels, other_labels
        ctx.save_for_backward(first, second)
        *_, of_first, of_second = ctx.needs_input_grad
        ctx.blocks = tiles, classes, loss = blocks_of(
            shared, Part(first, labels, second, other_labels), (of_first, of_second)
        )
        of_rows, of_columns = sums_of_ends(tiles, pair_blocks(tiles, classes, loss), loss)
        tiles.release()
        sums = unsorted(of_rows, classes.rows)
        return sums if second is None else torch.cat([sums, unsorted(of_columns, classes.columns)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second = ctx.saved_tensors
        part = Part(first, ctx.labels, second, ctx.other_labels)
        if torch.is_grad_enabled():
            gradients = plain_gradients(plain_sums(ctx.shared, part), gradient, first, second)
            return None, None, None, *gradients
        *_, of_first, of_second = ctx.needs_input_grad
        tiles, classes, loss = ctx.blocks or blocks_of(ctx.shared, part, (of_first, of_second))
        ctx.blocks = None  # they hold a gradient from now on
        of_rows = of_columns = ordered(gradient[: len(first)], classes.rows).to(first.dtype)
        if second is not None:
            of_columns = ordered(gradient[len(first) :], classes.columns).to(first.dtype)
        hand_back(pair_blocks(tiles, classes, loss), loss, of_rows, of_columns)
        found = (None if part is None else part[0].to(first.dtype) for part in tiles.gradients())
        return None, None, None, *found


def blocks_of(
    shared: SharedSums, part: Part, differentiable: tuple[bool, bool] = (False, False)
) -> tuple[Tiles, Classes, ByPairs]:
    """Return the blocks of a part in the order of its classes."""
    classes = Classes(part.labels, part.other_labels)
    tiles = Tiles(
        *(part.first, part.second, "similarity"),
        scale=shared.scale,
        upper=part.second is None,
        rows=classes.rows,
        columns=classes.columns,
        differentiable=differentiable,
    )
    return tiles, classes, shared.loss(classes)


def plain_sums(shared: SharedSums, part: Part) -> Callable[..., Tensor]:
    """Return the same sums as a plain composition of the points."""

    def sums(first: Tensor, second: Tensor | None = None) -> Tensor:
        itself = part.second is None
        loss = shared.loss(Classes(part.labels, part.other_labels))
        others, other_labels = (first, part.labels) if second is None else (second, part.other_labels)
        assert other_labels is not None
        similarities = cosine_similarity(first, others) * shared.scale
        same = part.labels.unsqueeze(1) == other_labels
        apart = ~torch.eye(len(first), dtype=torch.bool, device=first.device) if itself else torch.ones_like(same)
        terms = similarities if loss.of_positive is None else loss.of_positive(similarities)
        meant = apart if loss.everyone else ~same
        both = torch.stack([similarities.exp() * meant, terms * (same & apart)], 2).double()
        return both.sum(1) if itself else torch.cat([both.sum(1), both.sum(0)])

    return sums


def ordered(sums: Tensor, order: Tensor) -> Tensor:
    """Return ``(N, 2)`` as two columns ``(2, N, 1)`` in the order of the classes."""
    return sums.index_select(0, order).mT.unsqueeze(2)


def unsorted(sums: Tensor, order: Tensor) -> Tensor:
    """Return two columns ``(2, N, 1)`` in the order of the classes as ``(N, 2)``."""
    sums = sums.squeeze(2).mT
    return torch.empty_like(sums).index_copy_(0, order, sums)
