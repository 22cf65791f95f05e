"""Losses over all pairs of a labelled batch, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.labelled import LabelledBatch
from losses.core.outputs import Pairs
from losses.ops.eager import is_eager
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.classes import Classes
from losses.ops.tiles.differentiable import TileSums, over_tiles
from losses.ops.tiles.sizes import sizes

ClassFunction = Callable[[Tiles, Classes, Tensor | None], TileSums]


class Tiling(NamedTuple):
    """How a labelled batch is summed block by block.

    Args:
        function: from tiles, classes and a weight per row ``(N, 1)``, or none, to sums and denominators.
        scale: multiplies similarities.
        upper: every pair of a set with itself comes once.
        outputs: how many sums there are.
        whole_classes: a block holds all anchors of a class.
        precise: the blocks are in the precision of the accumulation, for choices that rounding must not make.
        few_buffers: see :class:`losses.ops.tiles.blocks.Tiles`.
    """

    function: ClassFunction
    scale: float = 1.0
    upper: bool = False
    outputs: int = 1
    whole_classes: bool = False
    precise: bool = False
    few_buffers: bool | None = None


def tileable(batch: LabelledBatch | Pairs, weight: Tensor | None = None) -> bool:
    """Return whether all pairs of the batch are meant, and nobody needs to see how they are made."""
    if isinstance(batch, LabelledBatch) and batch.indices is not None:
        return False
    second = None if batch[1] is batch[0] else batch[1]
    return is_eager(batch[0], second, weight) and not (weight is not None and weight.requires_grad)


@torch.no_grad()
def tiles_of(batch: LabelledBatch, measure: str) -> tuple[Tiles, Classes]:
    """Return the blocks of a batch in the order of its classes, to look at and not to differentiate."""
    classes = classes_of(batch)
    second = batch.others if batch.has_reference else None
    rows, columns, place = classes.rows, classes.columns, place_of(classes)
    tiles = Tiles(batch.anchors, second, measure, rows=rows, columns=columns, place=place, few_buffers=True)
    return tiles, classes


def over_batch(
    tiling: Tiling,
    definition: Callable[[LabelledBatch], Tensor],
    batch: LabelledBatch,
    measure: str,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sums ``(K,)`` over the pairs of a batch in the order of its classes, differentiable, and their
    denominators ``(K,)``.

    Without weights the denominators are integers: there may be more triplets than float32 can tell apart.

    Args:
        tiling: how to sum.
        definition: the same sums as a plain composition.
        batch: embeddings and labels.
        measure: see :class:`losses.ops.tiles.blocks.Tiles`.
        weight: of every anchor ``(N,)``.
    """
    classes = classes_of(batch)
    relative, greatest = normalised(weight)
    weight = classes.sorted(relative)

    def of_points(first: Tensor, second: Tensor | None = None) -> Tensor:
        return definition(batch._replace(anchors=first, others=first if second is None else second)) / greatest

    sums, denominators = over_tiles(
        lambda tiles: tiling.function(tiles, classes, weight),
        of_points,
        batch.anchors,
        batch.others if batch.has_reference else None,
        measure,
        rows=classes.rows,
        columns=classes.columns,
        place=place_of(classes),
        blocks=classes.whole(sizes().rows) if tiling.whole_classes else None,
        scale=tiling.scale,
        upper=tiling.upper,
        outputs=tiling.outputs,
        few_buffers=tiling.few_buffers,
        precise=tiling.precise,
    )
    if weight is None:
        return sums, denominators.round().long()
    return sums * greatest, (denominators * greatest).to(sums.dtype)


def normalised(weight: Tensor | None) -> tuple[Tensor | None, Tensor | float]:
    """Return weights with a largest of 1, and by what they were divided.

    A derivative times a weight of 1e-20 would lose its digits in float32 before the mean divides it by as little.
    """
    if weight is None or not len(weight):
        return weight, 1.0
    greatest = weight.amax().clamp_(min=torch.finfo(weight.dtype).tiny)
    return weight / greatest, greatest


def classes_of(batch: LabelledBatch) -> Classes:
    """Return the classes of a batch, of anchors and of what they are compared with."""
    return Classes(batch.labels, batch.other_labels if batch.has_reference else None, batch.place)


def place_of(classes: Classes) -> Tensor | None:
    """Return the column of every row that is a part of a larger set; of a whole set it is its own number."""
    return None if classes.itself else classes.place
