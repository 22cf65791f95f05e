"""Values and derivatives of elements and rows, in blocks that stay in a cache."""
