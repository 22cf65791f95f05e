"""Losses of embeddings: pairs, triplets and whole labelled batches."""
