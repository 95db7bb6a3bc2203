"""Which gradients a backward pass is to compute."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

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


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switches autocast off within a `with` block; does nothing on devices that have none, such as `meta`."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


Output = TypeVar("Output")


def run_block(block: Callable[..., Output], *inputs: object, recompute: bool) -> Output:
    """Calls a block; with `recompute` its activations are freed and computed anew in the backward pass.

    Source: Chen et al. 2016 (arXiv 1604.06174).
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    output: Output = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return output
