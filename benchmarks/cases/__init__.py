"""What is measured, a family of losses a file: the batches, what they are compared with, and what must be reached.

``elementwise.py`` is what families of single elements and samples have in common; ``overhead.py`` and ``training.py``
measure in ways of their own.
"""
