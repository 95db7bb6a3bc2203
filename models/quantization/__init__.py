"""8-bit arithmetic that training and export share: grids, clipping, balanced channels, calls of convolutions."""
