"""Losses of predictions: one number against another."""
