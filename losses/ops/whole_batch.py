"""Losses over all pairs of a labelled batch, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.core.labelled import LabelledBatch
from losses.core.outputs import Pairs
from losses.ops.classes import Classes
from losses.ops.tiles import ROWS, Tiles, may_tile, over_tiles

ClassKernel = Callable[[Tiles, Classes, Tensor | None], tuple[Sequence[Tensor], Sequence[Tensor]]]


def tileable(batch: LabelledBatch | Pairs, weight: Tensor | None = None) -> bool:
    """Return whether all pairs of the batch are meant, and nobody needs to see how they are made."""
    if isinstance(batch, LabelledBatch) and batch.indices is not None:
        return False
    return may_tile(batch[0], batch[1], weight) and not (weight is not None and weight.requires_grad)


@torch.no_grad()
def tiles_of(batch: LabelledBatch, measure: str) -> tuple[Tiles, Classes]:
    """Return the blocks of a batch in the order of its classes, to look at and not to differentiate."""
    classes = classes_of(batch)
    return Tiles(
        batch.anchors,
        batch.others if batch.has_reference else None,
        measure,
        rows=classes.rows,
        columns=classes.columns,
    ), classes


def over_batch(
    kernel: ClassKernel,
    definition: Callable[[LabelledBatch], Tensor],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None = None,
    *,
    whole_classes: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Return what a kernel sums ``(K,)``, differentiable, and counts ``(L,)`` over the pairs of a batch in the order of
    its classes.

    Without weights the counts are integers: there may be more triplets than float32 can tell apart.

    Args:
        kernel: from tiles, classes and a weight per row ``(N, 1)`` to sums and counts.
        definition: the same sums as a plain composition.
        batch: embeddings and labels.
        measure: and further options: see :class:`losses.ops.tiles.Tiles`.
        weight: of every anchor ``(N,)``.
        whole_classes: whether a block must hold all anchors of a class.
    """
    classes = classes_of(batch)
    weight = classes.sorted(weight)
    if whole_classes:
        options["blocks"] = classes.whole(ROWS)

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        return definition(batch._replace(anchors=first, others=first if second is None else second))

    second = batch.others if batch.has_reference else None
    sums, counts = over_tiles(
        lambda tiles: kernel(tiles, classes, weight),
        of_points,
        batch.anchors,
        second,
        measure,
        rows=classes.rows,
        columns=classes.columns,
        **options,
    )
    return sums, counts.round().long() if weight is None else counts.to(sums.dtype)


def classes_of(batch: LabelledBatch) -> Classes:
    """Return the classes of a batch, of anchors and of what they are compared with."""
    return Classes(batch.labels, batch.other_labels if batch.has_reference else None)
