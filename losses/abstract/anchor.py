"""Losses of embeddings with one item per anchor: a formula on the rows of the matrix of all comparisons."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_exporting

from losses.abstract.embedding import EmbeddingLoss
from losses.core.errors import InputError
from losses.core.labelled import LabelledBatch
from losses.core.outputs import Pairs
from losses.ops.distances import measured, measured_rowwise
from losses.ops.indexed.rows import IndexRows, NamedRows, by_formula, named, sum_of_named_rows
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums
from losses.ops.tiles.rows import AnchorBlock, Costs, anchor_blocks, by_autograd, no_sum
from losses.ops.tiles.whole_batch import Tiling, tileable, tiles_of


class AnchorRows(NamedTuple):
    """Some or all anchors of a batch, each with what it measures to its positives and to its negatives.

    Entries that are not meant are infinitely good, so that they cost nothing in most formulas: a positive that does not
    exist is infinitely near, with a similarity of inf or a distance of -inf, and a negative infinitely far away. There
    is a column at least.
    """

    positives: Tensor
    """``(N, P)``."""
    negatives: Tensor
    """``(N, M)``."""
    is_positive: Tensor
    """``(N, P)``, which of the positives are meant."""
    is_negative: Tensor
    """``(N, M)``, which of the negatives are meant."""


class AnchorLoss(EmbeddingLoss):
    """A loss whose items are anchors. All that it has to say is :meth:`of_anchors`, a formula on rows.

    From the formula follow the definition on labelled batches, with ``indices`` and ``reference`` too, on pairs that
    are given, which are one row, and the sum of a whole batch in blocks: autograd differentiates a block at a time. A
    loss for which that is too slow writes :meth:`tiling`, with its derivative by hand.
    """

    @abstractmethod
    def of_anchors(self, rows: AnchorRows) -> Tensor:
        """Return the value of every anchor ``(N,)``; what is not meant has no part in it."""

    def compares(self, output: Any) -> bool:
        return True  # pairs that are given are one item

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor | None:
        """Return which anchors count in the mean ``(N,)``, by their positives ``(N, P)`` and negatives ``(N, M)``;
        ``None`` is all of them."""
        return None

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        """Return the value of every anchor; pairs that are given are one."""
        if isinstance(output, Pairs):
            values = measured_rowwise(output.first, output.second, self.measure).unsqueeze(0)
        else:
            values = measured(output.anchors, output.others, self.measure)
        return self.of_anchors(all_rows(values, *sides(output, target), self._best))

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
        blocks = anchor_blocks(*tiles_of(output, self.measure), None)
        active = sum((self.of_anchors(rows_of(block, self._best)) > 0).sum() for block in blocks)
        return active, len(output.anchors)

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        return Tiling(self._over_tiles)

    def index_sums(self, batch: LabelledBatch) -> IndexRows | None:
        if not batch.others.shape[0]:
            return None
        shape = batch.anchors.shape[0], batch.others.shape[0]
        anchor, positive, negative_anchor, negative = batch.pairs()
        sums = partial(
            sum_of_named_rows,
            positive=named(anchor, positive, shape, batch.anchors.dtype),
            negative=named(negative_anchor, negative, shape, batch.anchors.dtype),
            absent=(self._best, -self._best),
            cost=self.costs_of_named,
            count=self._count,
        )
        return IndexRows(sums)

    def costs_of_named(self, rows: NamedRows) -> Costs:
        """Return the values of anchors ``(B, 1)`` that a miner's indices compare, and their derivatives by positives
        and by negatives; what is not meant is infinitely good."""
        return by_formula(lambda rows: self.of_anchors(meant(rows, self._best)).unsqueeze(1))(rows)

    def _count(self, rows: NamedRows) -> Tensor:
        """Return which anchors count ``(B, 1)``."""
        counted = self.counted(rows.times_positive > 0, rows.times_negative > 0)
        return torch.ones_like(rows.positives[:, :1]) if counted is None else counted.unsqueeze(1).to(rows.positives)

    @property
    def _best(self) -> float:
        """What a positive measures that could not be nearer."""
        return torch.inf if self.measure == "similarity" else -torch.inf

    def _formula(self, rows: AnchorRows) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the values of anchors ``(N, 1)`` as a function of what they measure."""
        return lambda positives, negatives: self.of_anchors(
            rows._replace(positives=positives, negatives=negatives)
        ).unsqueeze(1)

    def _over_tiles(self, tiles: Tiles, classes: Classes, weight: Tensor | None) -> TileSums:
        """Return the sum over all anchors and how many count: the formula and its gradient, block by block."""
        cost, number = no_sum(tiles), no_sum(tiles)
        for block in anchor_blocks(tiles, classes, weight):
            rows = rows_of(block, self._best)
            items, of_rows = by_autograd(self._formula(rows), rows[:2], block.weight, wanted=tiles.differentiable)
            counted = self.counted(rows.is_positive, rows.is_negative)
            counts = torch.ones_like(items) if counted is None else counted.unsqueeze(1).to(items.dtype)
            cost += block.total(items)
            number += block.total(counts)
            if tiles.differentiable:
                block.accumulate_weighted(*of_rows)
        return TileSums([cost], [number])


def has_both(is_positive: Tensor, is_negative: Tensor) -> Tensor:
    """Return which anchors have both positives and negatives: those that count in many losses."""
    return is_positive.any(-1) & is_negative.any(-1)


def all_rows(values: Tensor, positive: Tensor, negative: Tensor, best: float) -> AnchorRows:
    """Return rows from the matrix of all values ``(N, M)`` and the masks of who is meant as what ``(N, M)``."""
    if is_exporting() or not values.shape[1]:  # a program takes the empty batch too
        values, positive, negative = (F.pad(part, (0, 1)) for part in (values, positive, negative))
    return AnchorRows(values.masked_fill(~positive, best), values.masked_fill(~negative, -best), positive, negative)


def rows_of(block: AnchorBlock, best: float) -> AnchorRows:
    """Return the rows of a block, whose entries of the own class are overwritten."""
    positives = block.positives.masked_fill(~block.exists, best)
    negatives = block.fill_own(-best)
    is_negative = torch.ones_like(negatives, dtype=torch.bool)
    is_negative[:, block.band] = ~block.own
    return AnchorRows(
        filled(positives, best), filled(negatives, -best), filled(block.exists, False), filled(is_negative, False)
    )


def meant(rows: NamedRows, best: float) -> AnchorRows:
    """Return anchors with those that indices name, however often."""
    parts = rows.times_positive > 0, rows.times_negative > 0
    return AnchorRows(
        filled(rows.positives, best), filled(rows.negatives, -best), *(filled(part, False) for part in parts)
    )


def filled(part: Tensor, value: float) -> Tensor:
    """Return rows with a column at least, of this value where there is none."""
    return part if part.shape[1] else part.new_full((len(part), 1), value)


def sides(output: LabelledBatch | Pairs, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is whose positive and negative ``(N, M)``; of pairs that are given, in one row."""
    if isinstance(output, Pairs):
        same = (target > 0).unsqueeze(0)
        return same, ~same
    positive, negative = output.occurrences()
    return positive > 0, negative > 0
