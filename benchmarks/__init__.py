"""Measurements: every speed claim is a ratio to a peer in the same run, after both were seen to give the same
result."""
