"""How good restored faces are, against the clean faces and against those of the float network."""

from dataclasses import dataclass

from torch import Tensor

from data.ranges import model_to_uint8
from evaluation.image_metrics import psnr, ssim


@dataclass(frozen=True)
class Quality:
    """Means over faces, of images rounded to 8 bits."""

    psnr: float
    """Against the clean faces, dB."""
    ssim: float
    """Against the clean faces."""
    psnr_to_float: float
    """Against the images of the float network, dB."""


def quality(restored: Tensor, target: Tensor, restored_by_float: Tensor) -> Quality:
    """Measures restored faces.

    Args:
        restored: [N, 3, R, R], about [-1, 1].
        target: Clean faces, uint8 [N, 3, R, R].
        restored_by_float: What the float network made, as `restored`.

    Returns:
        Means over the faces; metrics as in `evaluation.image_metrics`.
    """
    images = model_to_uint8(restored.cpu())
    reference = model_to_uint8(restored_by_float.cpu())
    values = psnr(images, target), ssim(images, target), psnr(images, reference)
    return Quality(*(float(value.mean()) for value in values))
