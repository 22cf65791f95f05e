"""Points in the order of their classes: what belongs to one class stands together, so nobody needs an N x N mask of who
does."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.torch_private import may_read
from losses.ops.tiles.blocks import Tile


class PositiveColumns(NamedTuple):
    """The positives of every row of a block ``(B, P)``: in which column, and which of them exist."""

    column: Tensor
    exists: Tensor


class Classes:
    """Rows and columns sorted by class, and for every row the run of columns of its own class.

    Args:
        labels: of the rows ``(N,)``.
        other_labels: of the columns ``(M,)``; ``None`` if rows and columns are the same points.
        place: column at which the rows stand, in the order in which both came, if they are a part of the columns.

    ``place`` ``(N,)`` is the column of every row's own self, in the order of the classes; ``None`` where there is none.
    """

    def __init__(self, labels: Tensor, other_labels: Tensor | None = None, place: int | None = None) -> None:
        self.itself = other_labels is None
        labels, self.rows = labels.sort(stable=True)
        others, self.columns = (labels, self.rows) if other_labels is None else other_labels.sort(stable=True)
        self.start, self.stop = torch.searchsorted(others, labels), torch.searchsorted(others, labels, right=True)
        self.width = len(others)
        self.place = self._place_of_rows(0 if self.itself else place)
        self.positives = self.stop - self.start - int(self.place is not None)
        self.negatives = self.width - (self.stop - self.start)
        self.reads = may_read(labels)

    def _place_of_rows(self, place: int | None) -> Tensor | None:
        if place is None or self.itself:
            return None if place is None else torch.arange(self.width, device=self.rows.device)
        columns = torch.empty_like(self.columns)
        columns[self.columns] = torch.arange(self.width, device=self.rows.device)
        return columns[self.rows + place]

    def sorted(self, weight: Tensor | None) -> Tensor | None:
        """Return a weight per row ``(N,)`` in the order of the rows, as a column ``(N, 1)``."""
        return None if weight is None else weight.index_select(0, self.rows).unsqueeze(1)

    def whole(self, rows: int) -> list[slice]:
        """Return blocks of at least so many rows that break no class apart; for rows that are the columns too."""
        blocks, start = [], 0
        for stop in torch.unique_consecutive(self.stop).tolist():
            if stop - start >= rows:
                blocks.append(slice(start, stop))
                start = stop
        return blocks if start == len(self.rows) else [*blocks, slice(start, len(self.rows))]

    def band(self, tile: Tile) -> slice:
        """Return columns of the block outside of which there are only negatives; all of them where nothing may be
        read."""
        if not self.reads or tile.values.shape[0] == self.width:
            return slice(0, tile.values.shape[1])
        offset = tile.columns.start
        return slice(
            max(0, int(self.start[tile.rows.start]) - offset), max(0, int(self.stop[tile.rows.stop - 1]) - offset)
        )

    def own(self, tile: Tile, band: slice) -> Tensor:
        """Return which entries of a band ``(B, band)`` are of the row's own class, itself included."""
        first, last = tile.columns.start + band.start, tile.columns.start + band.stop
        if self.itself:  # a class is known by where it starts
            return self.start[tile.rows].unsqueeze(1) == self.start[first:last]
        columns = torch.arange(first, last, device=self.start.device)
        return (columns >= self.start[tile.rows].unsqueeze(1)) & (columns < self.stop[tile.rows].unsqueeze(1))

    def positive_columns(self, tile: Tile) -> PositiveColumns:
        """Return the positives of every row of a block that has all columns."""
        count = self.positives[tile.rows]
        most = int(count.amax()) if self.reads else self.width - int(self.place is not None)
        place = torch.arange(max(0, most), device=count.device)
        index = self.start[tile.rows].unsqueeze(1) + place
        if self.place is not None:  # step over the row itself
            index += index >= self.place[tile.rows].unsqueeze(1)
        exists = place < count.unsqueeze(1)
        if self.reads:
            return PositiveColumns(index.clamp_(max=max(0, self.width - 1)), exists)
        # what is none gets a column of its own in its row: adding to one place waits for what is added there
        return PositiveColumns(index.remainder_(max(1, self.width)), exists)
