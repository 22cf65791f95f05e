"""The tests: folders that ask one question of everything, and folders that mirror the package.

contract/ asks every loss for every clause, every law and its oracle; oracles/ holds the independent answers; mutants/
the broken losses that every clause must reject; fuzzing/ what is drawn at random; project/ the shape of the whole. The
others hold what is peculiar to one module. What several of them share lies here: gradients, drawing, refusals,
largest_tensor.
"""
