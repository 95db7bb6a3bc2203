"""Tensors to unweighted scalars, and the frozen networks some losses need."""
