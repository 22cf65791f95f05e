"""Numbers: logarithms of probabilities, singular values."""
