"""Sharing values among the processes of a run."""

import torch
import torch.distributed
from torch import Tensor


def rank_and_count() -> tuple[int, int]:
    """Number of this process and how many there are."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def wait_for_processes() -> None:
    """Returns once all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def average_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, the tensor itself where there is one; may change it in place."""
    num_processes = rank_and_count()[1]
    if num_processes > 1:
        torch.distributed.all_reduce(value)
        value = value / num_processes
    return value


def gather_from_processes(value: Tensor) -> Tensor:
    """Stacks the tensors of all processes by rank, [processes, ...]."""
    num_processes = rank_and_count()[1]
    if num_processes == 1:
        return value[None]
    values = [torch.empty_like(value) for _ in range(num_processes)]
    torch.distributed.all_gather(values, value)
    return torch.stack(values)
