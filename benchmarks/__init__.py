"""Times of training and inference beside the textbook formulation and the bare convolutions."""
