"""Bilinear resizing as OpenCV does it, and the canvases on which images of different sizes are processed together."""

import torch
import torch.nn.functional as F
from torch import Tensor


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


def resize(image: Tensor, size: int) -> Tensor:
    """Resizes bilinearly, without antialiasing, with half-pixel centres: OpenCV's INTER_LINEAR.

    Args:
        image: [1, C, H, W].
        size: New width and height S.

    Returns:
        [1, C, S, S] in channels_last layout, in which PyTorch is half as fast again.
    """
    image = image.contiguous(memory_format=torch.channels_last)
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)


def resize_along(x: Tensor, size: int, dim: int) -> Tensor:
    """`resize` along one dimension, also of complex numbers.

    Args:
        x: Any shape, L long in `dim`.
        size: New length S.
        dim: Which dimension.

    Returns:
        The shape of x with S in the place of L.
    """
    length = x.shape[dim]
    position = (torch.arange(size, device=x.device) + 0.5) * (length / size) - 0.5
    position = position.clamp(0, length - 1)
    first = position.long()
    share = (position - first).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))  # of the second neighbour
    second = (first + 1).clamp_max(length - 1)
    return x.index_select(dim, first).mul_(1 - share).add_(x.index_select(dim, second).mul_(share))
