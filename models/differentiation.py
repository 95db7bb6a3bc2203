"""Which gradients a backward pass is to compute."""

from collections.abc import Iterator
from contextlib import contextmanager

_wants_parameters = True


@contextmanager
def features_only() -> Iterator[None]:
    """Inside, backward passes give no gradients for weights, biases, noise strengths and noise.

    For the gradient that a penalty measures (R1, path length); the penalty's own backward pass comes afterwards and
    gives them all. Autograd leaves out what nobody asked for, but an operator with a gradient of its own cannot know.
    """
    global _wants_parameters
    before, _wants_parameters = _wants_parameters, False  # not thread-local: autograd has threads of its own
    try:
        yield
    finally:
        _wants_parameters = before


def wants_parameters() -> bool:
    """Whether gradients for parameters and noise are to be computed."""
    return _wants_parameters
