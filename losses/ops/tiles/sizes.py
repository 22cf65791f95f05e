"""How large blocks are: a setting that suits the machine, and that checks and tests make small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property


@dataclass(frozen=True)
class BlockSizes:
    """Up to which sizes something is done in one piece; results do not depend on it but by rounding."""

    elements: int = 1 << 20
    """Of a block on a CPU at most, unless it has fewer rows than the least."""
    elements_in_cache: int = 1 << 17
    """Of a block on a CPU that may have more rows than make products fast: a few of them fit into its cache."""
    one_block: int = 1 << 18
    """Elements up to which one block is best: its derivative can be added to its own transpose, and multiplied once."""
    rows: int = 64
    """Of a block at least: below that a matrix product is slow."""
    rows_for_speed: int = 120
    """Of a block whose elements permit it, which makes its products fast; twice as many where few buffers are
    needed."""
    elements_on_accelerator: int = 1 << 23
    """Of a block where no CPU computes: there every operation is a launch, and memory is fast."""
    rows_on_accelerator: int = 1024
    """Of a block at least, where no CPU computes."""
    exact: int = 1 << 12
    """Pairs up to which float64 costs less than to find out whether float32 would do."""
    one_by_one: int = 1 << 19
    """Differences of coordinates up to which distances are best measured from them, and not by a product."""
    dense: int = 1 << 14
    """Pairs up to which a batch is best looked at in one piece, as the number of operations decides."""
    dense_in_arrays: int = 1 << 14
    """Likewise, in NumPy, whose operations cost less to call."""
    dense_on_accelerator: int = 1 << 24
    """Likewise, where no CPU computes."""
    rounded_on_accelerator: int = 1 << 20
    """Distances that are kept in float64 there, in which all are made."""
    on_every_rank: int = 1 << 18
    """Pairs of the batch of all ranks up to which each of them looks at all of these: dealing them would take twice as
    many messages, of which each costs more."""
    triplets: int = 1 << 17
    """Triplets up to which the same holds for forming them."""
    cube_on_accelerator: int = 1 << 21
    """Elements of the cube of all anchors, positives and negatives up to which it is formed where no CPU computes."""
    sorted_on_accelerator: int = 1 << 22
    """Distances that are sorted at once where no CPU computes."""
    strip: int = 1 << 15
    """Elements that stay in the nearest cache."""
    strip_of_block: int = 1 << 16
    """Elements of a block that stay in a cache, with what is made of them, while several operations go over them."""
    in_arrays: int = 1 << 13
    """Elements up to which the number of operations decides, and NumPy, whose cost less to call, computes a loss."""
    rows_in_arrays: int = 1 << 15
    """Likewise, of the differences of matching rows."""
    block: int = 1 << 16
    """Elements of a block of a sum over elements."""
    in_one_piece: int = 1 << 14
    """Elements from which on a mean over too few for blocks has its gradient by hand, where the plain composition makes
    many temporaries."""
    in_blocks: int = 1 << 17
    """Elements from which on a sum over them is made in blocks."""
    in_blocks_long: int = 1 << 13
    """Likewise where the plain composition takes many operations."""
    in_blocks_fused: int = 1 << 20
    """Likewise where torch has a fused function for it, which makes few temporaries or none."""
    in_blocks_fused_long: int = 1 << 17
    """Likewise where that function takes many operations itself."""
    in_blocks_fused_weighted: int = 1 << 18
    """Likewise of a weighted sum, of which torch has the items."""
    group: int = 32
    """Columns of which only the best takes part in a search."""
    temporary: int = 1 << 22
    """Elements of the largest temporary of a plain composition."""
    temporary_on_accelerator: int = 1 << 26
    """Likewise, where no CPU computes."""
    rows_in_blocks: int = 1 << 14
    """Scores of a batch from which rows of scores are summed in blocks, with the gradient by hand."""
    rows_in_blocks_of_classes: int = 1 << 16
    """Likewise for a cross-entropy that torch has no fused function for."""
    rows_in_blocks_fused: int = 1 << 19
    """Likewise for one that it has."""
    narrow_rows: int = 1 << 10
    """Scores of a batch from which rows of a few classes are turned to columns for a softmax."""
    row_elements: int = 1 << 19
    """Of all buffers of a block of rows, its gradient among them: they stay in a cache together."""

    linear_chunk: int = 1 << 22
    """Logits of a linear layer that are made at once, on a CPU: fewer make matrix products slow."""
    linear_rows: int = 64
    """Rows of them at least, as each chunk reads the weight of the layer, and adds to its gradient."""
    linear_in_chunks: int = 1 << 20
    """Logits from which they are made in chunks."""
    linear_chunk_on_accelerator: int = 1 << 24
    """Logits that are made at once where no CPU computes."""
    linear_rows_on_accelerator: int = 256
    """Rows of them at least."""
    linear_in_chunks_on_accelerator: int = 1 << 24
    """Logits from which they are made in chunks there."""

    @cached_property
    def fewest_in_blocks(self) -> int:
        """Elements up to which no sum over them is made in blocks."""
        return min(self.in_blocks, self.in_blocks_long, self.in_blocks_fused, self.in_blocks_fused_long)


_sizes = BlockSizes()


def sizes() -> BlockSizes:
    """Return the sizes in force."""
    return _sizes


@contextmanager
def block_sizes(**changes: int) -> Iterator[None]:
    """Change some sizes for as long as the ``with`` statement lasts; on the way back from a loss they do not matter.

    >>> with block_sizes(elements=64, one_block=0, rows=4):
    ...     sizes().rows
    4
    >>> sizes().rows
    64
    """
    global _sizes
    former = _sizes
    _sizes = replace(former, **changes)
    try:
        yield
    finally:
        _sizes = former
