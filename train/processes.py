"""Sharing values among the processes of a run."""

import torch.distributed
from torch import Tensor


def average_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, the tensor itself where there is one; may change it in place."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return value
