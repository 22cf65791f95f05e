"""Value and derivative of element-wise and row-wise losses, in blocks that fit into a cache."""
