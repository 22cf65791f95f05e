"""Plain means over small batches in NumPy, on a CPU, value and derivative by hand: of a few dozen points an operation
takes a third of the time of one of torch. Products of matrices stay with torch, which has its own number of threads."""
