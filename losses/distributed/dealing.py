"""Which rank looks at which pairs of the batch of all ranks, where a pair is the same from both its ends.

If every rank compared its rows with those of all, two ranks would both look at each pair of their rows. So pairs are
dealt:

- Pairs within a rank are its own.
- Of two ranks the earlier one looks at the pairs with the first half of the later one's rows, and the later one at
  those with its second half.

With four ranks of two halves each, 0a 0b to 3a 3b, the numbers say who looks at the pairs of two halves; a dot is a
pair that stands at the other side of the diagonal already::

         0a 0b 1a 1b 2a 2b 3a 3b
     0a   0  0  0  1  0  2  0  3
     0b   .  0  0  1  0  2  0  3
     1a   .  .  1  1  1  2  1  3
     1b   .  .  .  1  1  2  1  3
     2a   .  .  .  .  2  2  2  3
     2b   .  .  .  .  .  2  2  3
     3a   .  .  .  .  .  .  3  3
     3b   .  .  .  .  .  .  .  3

Every pair is looked at once, whatever the sizes of ranks, and a rank that holds n of N rows looks at n N / 2 pairs: n n
/ 2 within, and half of those with every other rank. Its pairs with earlier and with later ranks are each a rectangle.

Two kinds of losses say that they can be made so. Where items are pairs (``each_pair_once``) ranks add up what their
pairs cost, and gradients for the rows of others go back to them. Where items are anchors whose costs are made from sums
over their pairs (``shared_sums``) ranks first exchange those sums, two numbers for each row; each computes what its own
anchors cost, and on the way back by how much that depends on their sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from losses.abstract.embedding import EmbeddingLoss
from losses.core.collectives import summed_rows, tied
from losses.core.labelled import LabelledBatch
from losses.core.reduction import Total, total_of
from losses.distributed.agreement import Sizes
from losses.ops.pairs.sums_of_parts import Part, SharedSums, sums_of_part
from losses.ops.tiles.whole_batch import classes_of

if TYPE_CHECKING:
    from losses.core.collectives import Group


def dealt_total(
    loss: EmbeddingLoss,
    output: Tensor,
    labels: Any,
    weight: Tensor | None,
    everyone: tuple[Tensor, Tensor],
    sizes: Sizes,
    group: Group,
) -> Total | None:
    """Return the total of the pairs that this rank looks at, or of its anchors; ``None`` where a loss has to look at
    every pair of its anchors.

    Args:
        loss: to be made.
        output: embeddings of this rank ``(N, D)``, and their labels ``(N,)``.
        weight: of every anchor.
        everyone: embeddings and labels of all ranks.
        sizes: of all ranks.
        group: of processes.
    """
    if loss.each_pair_once and weight is None:  # a pair weighs the mean of its ends, of which a reference has none
        compute: Any = partial(total_of_dealt_pairs, loss, sizes)
    elif (shared := loss.shared_sums()) is not None:
        compute = partial(total_of_shared_sums, shared, sizes, group)
    else:
        return None
    context = {"reference": everyone, "place": sizes.start("embeddings")}
    total: Total = loss._on_accepted(compute, output, labels, weight, context)
    return total


def total_of_dealt_pairs(
    loss: EmbeddingLoss, sizes: Sizes, batch: LabelledBatch, target: Tensor, weight: Tensor | None
) -> Total:
    """Return the total of the pairs that this rank looks at."""
    totals = []
    for part, _ in dealt_parts(sizes, batch):
        beside = {} if part.second is None else {"reference": (part.second, part.other_labels)}
        totals.append(loss._on_accepted(loss._total, part.first, part.labels, None, beside))
    return sum(totals[1:], totals[0])


def total_of_shared_sums(
    shared: SharedSums, sizes: Sizes, group: Group, batch: LabelledBatch, target: Tensor, weight: Tensor | None
) -> Total:
    """Return the total of the anchors of this rank, from sums to which every rank adds those of its pairs."""
    sums = torch.zeros(len(batch.others), 2, dtype=torch.float64, device=batch.others.device)
    for part, rows in dealt_parts(sizes, batch):
        sums = sums.index_add(0, rows, sums_of_part(shared, part))
    # also on a rank without rows, and before gradients for the points of others, are slopes handed around
    sums = tied(sums, [batch.others] if batch.others.requires_grad else [])
    own = summed_rows(sums, sizes.of("embeddings"), group)
    classes = classes_of(batch)
    loss = shared.loss(classes)
    costs = loss.cost(*torch.split(own.index_select(0, classes.rows), 1, 1))
    costs = costs.masked_fill(~loss.counted, 0).clamp(min=0).to(batch.anchors.dtype)  # below 0 only by rounding
    return total_of(costs, classes.sorted(weight), loss.counted.to(costs.dtype))


def dealt_parts(sizes: Sizes, batch: LabelledBatch) -> Iterator[tuple[Part, Tensor]]:
    """Yield the pairs that this rank looks at, and which rows of all ranks those of each part are."""
    number = torch.arange(len(batch.others), device=batch.others.device)
    start, labels = sizes.start("embeddings"), batch.other_labels
    own = number[start : start + len(batch.anchors)]
    yield Part(batch.anchors, batch.labels), own
    rectangles = pairs_with_others(sizes.of("embeddings"), sizes.rank)
    cuts = [0, *(end for each in rectangles for rows in each.others for end in (rows.start, rows.stop)), len(number)]
    # split once, as the gradient by each slice of its own would be one by all rows
    pieces = iter(torch.split(batch.others, [stop - start for start, stop in pairwise(cuts)])[1::2])
    for mine, others in rectangles:
        ours = batch.anchors if length(mine) == len(own) else batch.anchors[mine], own[mine]
        theirs = joined([next(pieces) for _ in others]), joined([number[rows] for rows in others])
        few, many = sorted((ours, theirs), key=lambda side: len(side[1]))  # wide blocks are faster
        yield Part(few[0], labels[few[1]], many[0], labels[many[1]]), torch.cat([few[1], many[1]])


def joined(parts: list[Tensor]) -> Tensor:
    """Return the rows of several tensors, without a copy where there is one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Rectangle(NamedTuple):
    """Pairs of some rows of this rank with some rows of others."""

    own: slice
    """Of the rows of this rank."""
    others: list[slice]
    """Of the rows of all ranks, one rank after the other."""


def pairs_with_others(sizes: Sequence[int], rank: int) -> list[Rectangle]:
    """Return the pairs with rows of other ranks that a rank looks at; rectangles without any are left out.

    Args:
        sizes: how many rows every rank has.
        rank: whose pairs these are.

    The rows of others come in their order, none of them twice.
    """
    starts = [0, *accumulate(sizes)]
    first_halves = [slice(start, start + first_half(size)) for start, size in zip(starts, sizes, strict=False)]
    with_later = Rectangle(slice(0, sizes[rank]), [rows for rows in first_halves[rank + 1 :] if length(rows)])
    with_earlier = Rectangle(slice(first_half(sizes[rank]), sizes[rank]), [slice(0, starts[rank])])
    return [each for each in (with_earlier, with_later) if length(each.own) and sum(map(length, each.others))]


def first_half(size: int) -> int:
    """Return how many rows are in the first half of so many."""
    return (size + 1) // 2


def length(rows: slice) -> int:
    return int(rows.stop - rows.start)
