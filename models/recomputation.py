"""Less memory for more time: activations inside a block are computed again when its gradient needs them."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

Output = TypeVar("Output")


def run_block(block: Callable[..., Output], *inputs: object, recompute: bool) -> Output:
    """Calls a block; with `recompute` its activations are freed and computed anew in the backward pass.

    Source: Chen et al. 2016 (arXiv 1604.06174).
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    output: Output = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return output
