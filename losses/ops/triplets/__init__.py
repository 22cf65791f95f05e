"""Sums over the triplets of a labelled batch, without ever listing them: definitions and tiled functions."""
