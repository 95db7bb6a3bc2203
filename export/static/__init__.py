"""The trained function with every weight a constant, and what is counted on it."""
