"""The part of an aligned face that a recognition network sees."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class FaceCrop:
    """The part of an aligned face that a network sees, in pixels of the image at 256."""

    top: int
    left: int
    size: int
    resolution: int
    """Side after shrinking."""


def crop_face(image: Tensor, crop: FaceCrop) -> Tensor:
    """Cuts the inner face out of faces [N, 3, R, R], aligned as in FFHQ, as a network saw faces in training: [N, 3, r,
    r], r the crop's resolution, that part of the image at 256 pixels, shrunk by averaging areas."""
    resolution = image.shape[-1]
    rows = _crop_weights(resolution, crop.top, crop, image.device).to(image.dtype)  # [crop.resolution, R]
    columns = _crop_weights(resolution, crop.left, crop, image.device).to(image.dtype)
    # Every step is linear along one axis: two products instead of an image of 256 pixels, which took longer than the
    # network behind it.
    return rows @ image @ columns.T


@cache
def _crop_weights(resolution: int, first: int, crop: FaceCrop, device: torch.device) -> Tensor:
    """What each of R pixels of a row counts in each pixel of the crop that begins at `first` of 256.

    Computed where it is needed: a copy from the host would make a GPU wait in every iteration.
    """
    pixels = torch.eye(resolution, device=device)[None]  # [1, R, R]: as if each pixel were a channel
    if resolution > 256:
        pixels = interpolate(pixels, 256, mode="area")
    elif resolution < 256:
        pixels = interpolate(pixels, 256, mode="linear", align_corners=False)
    return interpolate(pixels[:, :, first : first + crop.size], crop.resolution, mode="area")[0].T
