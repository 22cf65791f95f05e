"""Losses of classifiers: logits or scores against classes."""
