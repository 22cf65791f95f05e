"""What to minimise when it is more than one loss: weighted sums, and penalties on the parameters of a network."""
