"""Files that other programs run, and their comparison with the network."""
