"""Resizing as OpenCV and Pillow do it, and the canvases on which images of different sizes are processed together."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.presets import ResizeMode


def canvas_size(size: int) -> int:
    """Returns the width of the canvas on which an image of `size` pixels is compressed: the next multiple of 16.

    JPEG's blocks are 16 pixels wide with halved chroma. A function of the image's own size alone, so that no result
    depends on the other images of a batch.
    """
    return -(-size // 16) * 16


def fill_canvas(image: Tensor, canvas: int) -> Tensor:
    """Repeats the last row and column of an image [1, C, S, S] up to [1, C, canvas, canvas], as a JPEG encoder does."""
    missing = canvas - image.shape[-1]
    return F.pad(image, (0, missing, 0, missing), mode="replicate")


def resize(image: Tensor, size: int, mode: ResizeMode = "bilinear") -> Tensor:
    """Resizes [1, C, H, W] to [1, C, S, S] in channels_last layout, in which PyTorch is half as fast again, with
    half-pixel centres, without antialiasing unless the mode says so; the bicubic modes overshoot the range of the
    image."""
    image = image.contiguous(memory_format=torch.channels_last)
    if mode == "nearest":
        return F.interpolate(image, size=(size, size), mode="nearest")
    if mode == "area":
        rows = _area_weights(image.shape[-2], size, image.device)
        columns = _area_weights(image.shape[-1], size, image.device)
        return (rows @ image @ columns.T).contiguous(memory_format=torch.channels_last)
    is_antialiased = mode == "antialiased_bicubic"
    kind = "bilinear" if mode == "bilinear" else "bicubic"
    return F.interpolate(image, size=(size, size), mode=kind, align_corners=False, antialias=is_antialiased)


def _area_weights(length: int, size: int, device: torch.device) -> Tensor:
    """Which share of each of `size` equal parts of a line its `length` pixels cover, [size, length]."""
    edges = torch.arange(size + 1, device=device, dtype=torch.float64) * (length / size)
    pixels = torch.arange(length, device=device, dtype=torch.float64)
    first, last = torch.maximum(edges[:-1, None], pixels), torch.minimum(edges[1:, None], pixels + 1)
    return ((last - first).clamp_min(0) * (size / length)).to(torch.float32)


def resize_along(x: Tensor, size: int, dim: int) -> Tensor:
    """`resize` along one dimension, from length L to S, also of complex numbers."""
    length = x.shape[dim]
    position = (torch.arange(size, device=x.device) + 0.5) * (length / size) - 0.5
    position = position.clamp(0, length - 1)
    first = position.long()
    share = (position - first).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))  # of the second neighbour
    second = (first + 1).clamp_max(length - 1)
    return x.index_select(dim, first).mul_(1 - share).add_(x.index_select(dim, second).mul_(share))
