"""From ranges of activations to convolutions in 8 bits, with the loss measured."""
