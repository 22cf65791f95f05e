"""What a miner's indices say of a batch, picked out of the matrix of all pairs: no row is gathered for each."""
