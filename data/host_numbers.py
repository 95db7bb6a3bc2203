"""Host-side numbers to the device of the images without waiting for the work queued there."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[float] | Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copies plain numbers to a device.

    Args:
        numbers: N numbers.
        device: Where they are needed.
        dtype: Type of the result.

    Returns:
        Tensor [N]. On a GPU the copy is queued from pinned memory: an ordinary `torch.tensor(..., device=...)` would
        stop the host until all queued kernels have run.
    """
    on_host = torch.tensor(numbers, dtype=dtype)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)
