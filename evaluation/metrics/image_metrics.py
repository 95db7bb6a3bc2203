"""PSNR and SSIM per image: in the deployment zoo's definition, and as other toolkits and papers define them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW_SIZE_PIXELS = 11
WINDOW_SIGMA_PIXELS = 1.5
K1, K2, WHITE = 0.01, 0.03, 255.0

PSNR_DEFINITION = (
    "10 log10(255^2 / MSE), dB; 8-bit RGB, all channels and pixels in one mean, float64, per image; identical images "
    "count as one sample differing by one grey level"
)
SSIM_DEFINITION = (
    "Gaussian window 11 x 11, sigma 1.5, valid region only, K1 0.01, K2 0.03, L 255; 8-bit RGB, mean of the three "
    "channels, float64, per image"
)


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each uint8 [N, 3, H, W] and its target, the zoo's definition: float64 [N], dB.

    An image equal to its target has no finite PSNR, and one such image would make every mean infinite. It counts as the
    smallest difference that 8 bits can hold (one sample off by one grey level): 10 log10(255² · 3HW), 89 dB at 64
    pixels and 107 dB at 512, the most that any other image can reach. ValueError unless the images are uint8 RGB of one
    shape.
    """
    check_pair(image, target)
    return psnr_of_values(image.to(torch.float64), target.to(torch.float64))


def psnr_of_values(x: Tensor, y: Tensor) -> Tensor:
    """PSNR, peak 255, of each of N images float64 [N, C, H, W]; equal ones count as one sample off by 1."""
    mean_squared = (x - y).square().flatten(1).mean(dim=1).clamp_min(1 / x[0].numel())  # [N]
    return 10 * torch.log10(WHITE**2 / mean_squared)


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each uint8 [N, 3, H, W] and its target, the zoo's definition: float64 [N], [-1, 1].

    Raises ValueError unless the images are uint8 RGB of one shape, H and W at least 11.

    Source: Wang et al. 2004, equation 13, with population moments under a Gaussian window; the zoo's code repeats the
    whole image for each channel, which does not change the value.
    """
    check_pair(image, target)
    return structural_similarity(image.to(torch.float64), target.to(torch.float64), gaussian_window())


def structural_similarity(x: Tensor, y: Tensor, window: Tensor, moment_factor: float = 1.0) -> Tensor:
    """Mean of the similarity of all windows that lie inside images x and y, float64 [N, C, H, W], [0, 255]: [N], [-1,
    1]. The window has weights along one side, float64 [K], sum 1; the factor of variances and covariance is 1 for those
    of a population, K²/(K² - 1) for unbiased ones. ValueError where the images are smaller than the window."""
    if min(x.shape[-2:]) < len(window):
        raise ValueError(f"SSIM needs images at least {len(window)} pixels wide and high, got {tuple(x.shape)}")
    mean_x, mean_y = _windowed(x, window), _windowed(y, window)  # [N, C, H - K + 1, W - K + 1]
    variance_x = moment_factor * (_windowed(x * x, window) - mean_x**2)
    variance_y = moment_factor * (_windowed(y * y, window) - mean_y**2)
    covariance = moment_factor * (_windowed(x * y, window) - mean_x * mean_y)
    c1, c2 = (K1 * WHITE) ** 2, (K2 * WHITE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(dim=1)  # [N]


def gaussian_window(size_pixels: int = WINDOW_SIZE_PIXELS, sigma_pixels: float = WINDOW_SIGMA_PIXELS) -> Tensor:
    """Weights float64 [K] along one side of a window of K pixels, sum 1."""
    offset = torch.arange(size_pixels, dtype=torch.float64) - size_pixels // 2
    window = torch.exp(-offset.square() / (2 * sigma_pixels**2))
    return window / window.sum()


def check_pair(image: Tensor, target: Tensor) -> None:
    """Raises ValueError unless both are uint8 [N, 3, H, W] of one shape."""
    for name, pixels in (("image", image), ("target", target)):
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(
                f"{name} must be uint8 [N, 3, H, W], got {pixels.dtype} {tuple(pixels.shape)}; "
                "use data.ranges.model_to_uint8"
            )
    if image.shape != target.shape:
        raise ValueError(f"image and target must have one shape, got {tuple(image.shape)} and {tuple(target.shape)}")


def _windowed(x: Tensor, window: Tensor) -> Tensor:
    """Weighted mean of every window inside the image; [N, C, H, W] -> [N, C, H - K + 1, W - K + 1]."""
    channels = x.shape[1]
    weights = window.to(x).expand(channels, 1, 1, -1)
    rows = F.conv2d(x, weights, groups=channels)
    return F.conv2d(rows, weights.transpose(2, 3), groups=channels)


FLAT_SIZE_PIXELS = 7

Measure = Callable[[Tensor, Tensor], Tensor]
"""uint8 [N, 3, H, W] twice to float64 [N]."""


@dataclass(frozen=True)
class Convention:
    """One way to compute both."""

    name: str
    used_by: str
    psnr: Measure
    ssim: Measure


def luma(images: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB and BasicSR compute it, not rounded: of uint8 RGB [N, 3, H, W] float64 [N, 1, H, W],
    [16, 235]."""
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
    x, y = (F.pad(images.double(), (border,) * 4, mode="reflect") for images in (image, target))
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
