"""The precision in which losses are reduced."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Turns half precision into float32, where means do not overflow; float64 stays for numerical gradient checks."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
