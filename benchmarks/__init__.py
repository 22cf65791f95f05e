"""Measurements: every speed claim is a ratio to a peer in the same run, after both were seen to give the same result.

``harness/`` is how things are measured, ``peers/`` what ours are compared with, ``cases/`` what is measured, a family
of losses a file, and ``results/`` what came of it.
"""
