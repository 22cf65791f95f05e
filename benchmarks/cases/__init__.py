"""What is measured, a family of losses a file: the batches, what they are compared with, and what must be reached."""
