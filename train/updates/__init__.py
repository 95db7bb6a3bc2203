"""What changes weights: optimizers, adversarial updates, parts of a batch, the moving average."""
