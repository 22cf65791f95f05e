"""Losses over several processes that work together."""
