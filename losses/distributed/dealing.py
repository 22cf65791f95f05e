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
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


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
