"""Measuring what several processes do together."""
