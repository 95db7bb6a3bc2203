"""Bilinear resizing where every image of a batch has its own size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from data.host_numbers import to_device


def canvas_size(size: int) -> int:
    """Returns the width of the canvas an image of `size` pixels is processed on.

    A function of the image's own size alone, so that no result depends on the other images of a batch: the next
    multiple of 16 (JPEG's block with halved chroma) and, above 64 pixels, of a quarter of the next power of two, which
    leaves few distinct sizes.
    """
    step = 2 ** max(4, (size - 1).bit_length() - 2)
    return -(-size // step) * step


def resize_batch(images: Tensor, sizes: Sequence[int], new_sizes: Sequence[int], canvas: int) -> Tensor:
    """Resizes square images bilinearly, without antialiasing, with half-pixel centres: OpenCV's INTER_LINEAR.

    Args:
        images: [N, C, H, W]; image i is the upper left square of sizes[i] pixels.
        sizes: N widths before.
        new_sizes: N widths after.
        canvas: Width of the result, at least every new size.

    Returns:
        [N, C, canvas, canvas]; image i is the upper left square of new_sizes[i] pixels, and the rest repeats its last
        row and column, as a JPEG encoder does to fill its blocks.
    """
    old = to_device(sizes, images.device, torch.float32)[:, None]  # [N, 1]
    new = to_device(new_sizes, images.device, torch.float32)[:, None]
    position = torch.arange(canvas, device=images.device, dtype=torch.float32)
    position = torch.minimum(position[None, :], new - 1)
    source = ((position + 0.5) * (old / new) - 0.5).clamp_min(0)
    source = torch.minimum(source, old - 1)  # [N, canvas], pixels of the old image
    count = len(sizes)
    scaled_x = source * (2 / (images.shape[-1] - 1)) - 1  # grid_sample's [-1, 1] from first to last pixel centre
    scaled_y = source * (2 / (images.shape[-2] - 1)) - 1
    grid = torch.stack(
        (scaled_x[:, None, :].expand(count, canvas, canvas), scaled_y[:, :, None].expand(count, canvas, canvas)), dim=-1
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
