"""Sums over the pairs of a batch, and over logarithms of sums of pairs: tiled functions."""
