"""Correct losses of other authors, as unlike each other as can be: the contract has to let all of them pass."""
