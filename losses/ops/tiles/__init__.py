"""All pairs of a batch in blocks, with the gradient taken on the way."""
