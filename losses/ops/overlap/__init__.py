"""How a segmentation overlaps a mask."""
