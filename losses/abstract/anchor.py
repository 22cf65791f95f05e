"""Losses of embeddings with one item per anchor: a formula on the rows of the matrix of all comparisons."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from losses.abstract.embedding import EmbeddingLoss, measured, measured_rowwise
from losses.core.errors import InputError
from losses.core.labelled import LabelledBatch
from losses.core.outputs import Pairs
from losses.ops.tiles.blocks import Tile, Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import exact_sum, no_sum
from losses.ops.tiles.whole_batch import Tiling, tileable, tiles_of


class AnchorRows(NamedTuple):
    """Some or all anchors of a batch: what each measures to everyone ``(N, M)``, and who of them is its positive and
    its negative ``(N, M)``. Of an anchor and itself neither is true."""

    values: Tensor
    positive: Tensor
    negative: Tensor


class AnchorLoss(EmbeddingLoss):
    """A loss whose items are anchors. All that it has to say is :meth:`of_anchors`, a formula on rows.

    From the formula follow the definition on labelled batches, with ``indices`` and ``reference`` too, on pairs that
    are given, which are one row, and the sum of a whole batch in blocks: autograd differentiates a block at a time. A
    loss for which that is too slow writes :meth:`tiling`, with its derivative by hand.
    """

    @abstractmethod
    def of_anchors(self, rows: AnchorRows) -> Tensor:
        """Return the value of every anchor ``(N,)``; the derivative by what is neither positive nor negative is 0."""

    def counted(self, positive: Tensor, negative: Tensor) -> Tensor | None:
        """Return which anchors count in the mean ``(N,)``, of their positives and negatives ``(N, M)``; ``None`` is
        all of them."""
        return None

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        """Return the value of every anchor; pairs that are given are one."""
        if isinstance(output, Pairs):
            values = measured_rowwise(*output, self.measure).unsqueeze(0)
        else:
            values = measured(output.anchors, output.others, self.measure)
        return self.of_anchors(AnchorRows(values, *sides(output, target)))

    def denominators(self, items: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor | None:
        counted = self.counted(*sides(output, target))
        return None if counted is None else counted.to(items.dtype)

    def item_weights(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if isinstance(output, Pairs):
            raise InputError(
                f"{self.spec.name} takes {len(target)} pairs as one item, so a weight for each has no meaning; leave "
                "weight out, or pass a labelled batch with one weight per anchor"
            )
        return weight

    def active_items(self, output: LabelledBatch | Pairs, target: Tensor) -> tuple[Tensor | int, Tensor | int]:
        if type(self).counted is not AnchorLoss.counted:
            return super().active_items(output, target)
        if not isinstance(output, LabelledBatch) or not tileable(output):
            items = self.items(output, target)
            return (items > 0).sum(), len(items)
        tiles, classes = tiles_of(output, self.measure)
        active = sum((self.of_anchors(rows_of(tile, classes)) > 0).sum() for tile in tiles)
        return active, len(output.anchors)

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        return Tiling(self._over_tiles)

    def _over_tiles(self, tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
        """Return the sum over all anchors and how many count: the formula and its gradient, block by block."""
        cost, number = no_sum(tiles), no_sum(tiles)
        for tile in tiles:
            rows = rows_of(tile, classes)
            counted = self.counted(rows.positive, rows.negative)
            row_weight = None if weight is None else weight[tile.rows]
            # what a block saves is used up here: a caller's hooks would offload it, or checkpoint it block by block
            with torch.enable_grad(), saved_tensors_hooks(Tensor.detach, Tensor.detach):
                values = rows.values.detach().requires_grad_(tiles.differentiable)
                items = self.of_anchors(rows._replace(values=values)).unsqueeze(1)
            cost += exact_sum(items.detach(), row_weight)
            counts = torch.ones_like(items) if counted is None else counted.unsqueeze(1).to(items.dtype)
            number += exact_sum(counts.detach(), row_weight)
            if tiles.differentiable:
                of_items = torch.ones_like(items) if row_weight is None else row_weight
                (gradient,) = torch.autograd.grad(items, values, of_items)
                tile.at_itself(tile.values, torch.inf)  # a distance that its derivative of 0 can be divided by
                tile.accumulate_gradient(gradient)
        return TileSums([cost], [number])


def has_both(positive: Tensor, negative: Tensor) -> Tensor:
    """Return which anchors have both positives and negatives: those that count in many losses."""
    return positive.any(-1) & negative.any(-1)


def rows_of(tile: Tile, classes: Classes) -> AnchorRows:
    """Return the rows of a block, an anchor's own self at 0."""
    own = classes.own(tile, slice(0, tile.values.shape[1]))
    negative = ~own
    tile.at_itself(own, False)
    tile.at_itself(tile.values, 0)
    return AnchorRows(tile.values, own, negative)


def sides(output: LabelledBatch | Pairs, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is whose positive and negative ``(N, M)``; of pairs that are given, in one row."""
    if isinstance(output, Pairs):
        same = (target > 0).unsqueeze(0)
        return same, ~same
    positive, negative = output.occurrences()
    return positive > 0, negative > 0
