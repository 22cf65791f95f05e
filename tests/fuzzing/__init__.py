"""Whatever is thrown at it: configurations, files and batches drawn by Hypothesis, and what they have found.

A batch is what the loss's own kind of input draws, changed by a few named steps. The steps are data, so that Hypothesis
shrinks a failure to the fewest steps that still fail and prints them.
"""
