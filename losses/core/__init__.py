"""The concepts every loss is built from; knows torch, knows no loss."""
