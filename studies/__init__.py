"""Questions answered by training: plans, their execution, measurement and comparison."""
