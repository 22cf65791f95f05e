"""Small batches in one piece, where the number of operations decides and not their size: no blocks, no sorting."""
