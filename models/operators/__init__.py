"""Differentiable operators of the networks: activation, convolution, resampling, and what a backward pass computes."""
