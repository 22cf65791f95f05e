"""How things are measured: time, memory, equality, and the conditions of all that."""
