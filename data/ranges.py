"""All conversions between value ranges: uint8 on disk, [0, 1] inside degradation and metrics, [-1, 1] inside models."""

import torch
from torch import Tensor


def uint8_to_model(image: Tensor) -> Tensor:
    """Turns 8-bit pixels of any shape into float32 in [-1, 1]; 0 becomes -1 and 255 becomes 1. ValueError for other
    types."""
    if image.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, got {image.dtype}; use unit_to_model for [0, 1]")
    return image.to(torch.float32) / 127.5 - 1


def model_to_uint8(image: Tensor) -> Tensor:
    """Clamps floating-point images to [-1, 1] and rounds to 8-bit pixels; the inverse of `uint8_to_model`."""
    return ((image.to(torch.float32) + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def model_to_unit(image: Tensor) -> Tensor:
    """Maps [-1, 1] to [0, 1] without clamping; keeps shape, type and gradient."""
    return image * 0.5 + 0.5


def unit_to_model(image: Tensor) -> Tensor:
    """Maps [0, 1] to [-1, 1] without clamping; keeps shape, type and gradient."""
    return image * 2 - 1
