"""PSNR and SSIM as toolkits and papers define them: the same images give other numbers under each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.metrics.image_metrics import (
    WINDOW_SIZE_PIXELS,
    check_pair,
    gaussian_window,
    psnr,
    psnr_of_values,
    ssim,
    structural_similarity,
)

FLAT_SIZE_PIXELS = 7

Measure = Callable[[Tensor, Tensor], Tensor]
"""uint8 [N, 3, H, W] twice to float64 [N]."""


@dataclass(frozen=True)
class Convention:
    """One way to compute both."""

    name: str
    """In tables."""
    used_by: str
    """Toolkits and papers."""
    psnr: Measure
    """dB."""
    ssim: Measure
    """[-1, 1]."""


def luma(images: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB and BasicSR compute it, not rounded.

    Args:
        images: uint8 [N, 3, H, W], RGB.

    Returns:
        float64 [N, 1, H, W], [16, 235].
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=images.device)
    return 16 + torch.einsum("c,nchw->nhw", weights, images.double() / 255)[:, None]


def psnr_of_luma(image: Tensor, target: Tensor) -> Tensor:
    """PSNR of Y alone with peak 255, float64 [N], of images uint8 [N, 3, H, W]."""
    check_pair(image, target)
    return psnr_of_values(luma(image), luma(target))


def ssim_of_luma(image: Tensor, target: Tensor) -> Tensor:
    """SSIM of Y alone, Gaussian window, valid region, float64 [N], of images uint8 [N, 3, H, W]."""
    check_pair(image, target)
    return structural_similarity(luma(image), luma(target), gaussian_window())


def ssim_of_skimage(image: Tensor, target: Tensor) -> Tensor:
    """SSIM with skimage's defaults: flat window of 7 pixels, unbiased covariances, valid region; float64 [N]."""
    check_pair(image, target)
    window = torch.full((FLAT_SIZE_PIXELS,), 1 / FLAT_SIZE_PIXELS, dtype=torch.float64)
    number = FLAT_SIZE_PIXELS**2
    return structural_similarity(image.double(), target.double(), window, number / (number - 1))


def ssim_of_torchmetrics(image: Tensor, target: Tensor) -> Tensor:
    """SSIM with torchmetrics' defaults: Gaussian window, borders mirrored so that every pixel counts; float64 [N]."""
    check_pair(image, target)
    border = WINDOW_SIZE_PIXELS // 2
    x, y = (functional.pad(images.double(), (border,) * 4, mode="reflect") for images in (image, target))
    return structural_similarity(x, y, gaussian_window())


CONVENTIONS = (
    Convention(
        "RGB, Gaussian window, valid region",
        "BasicSR (GFPGAN is built on it), VQFR's script, VastModelZOO; skimage with gaussian_weights",
        psnr,
        ssim,
    ),
    Convention("Y of YCbCr, Gaussian window, valid region", "BasicSR with test_y_channel", psnr_of_luma, ssim_of_luma),
    Convention("RGB, flat window of 7 pixels", "skimage's defaults", psnr, ssim_of_skimage),
    Convention("RGB, Gaussian window, mirrored border", "torchmetrics' defaults", psnr, ssim_of_torchmetrics),
)
"""An image equal to its target counts as one sample off by one grey level everywhere; the toolkits say infinity."""
