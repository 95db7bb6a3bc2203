"""PSNR and SSIM per image in the deployment zoo's definition."""

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
    """Peak signal-to-noise ratio of each image, the deployment zoo's definition.

    An image equal to its target has no finite PSNR, and one such image would make every mean infinite. It counts as the
    smallest difference that 8 bits can hold (one sample off by one grey level): 10 log10(255² · 3HW), 89 dB at 64
    pixels and 107 dB at 512, the most that any other image can reach.

    Args:
        image: uint8 [N, 3, H, W].
        target: uint8 [N, 3, H, W].

    Returns:
        float64 [N], dB.

    Raises:
        ValueError: If the images are no uint8 RGB of one shape.
    """
    check_pair(image, target)
    squared = (image.to(torch.float64) - target.to(torch.float64)).square()
    mean_squared = squared.flatten(1).mean(dim=1).clamp_min(1 / image[0].numel())  # [N]
    return 10 * torch.log10(WHITE**2 / mean_squared)


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, the deployment zoo's definition.

    Args:
        image: uint8 [N, 3, H, W], H and W at least 11.
        target: uint8 [N, 3, H, W].

    Returns:
        float64 [N], [-1, 1].

    Raises:
        ValueError: If the images are no uint8 RGB of one shape, or smaller than the window.

    Source:
        Wang et al. 2004, equation 13, with population moments under a Gaussian window; the zoo's code repeats the whole
        image for each channel, which does not change the value.
    """
    check_pair(image, target)
    if min(image.shape[-2:]) < WINDOW_SIZE_PIXELS:
        raise ValueError(
            f"SSIM needs images at least {WINDOW_SIZE_PIXELS} pixels wide and high, got {tuple(image.shape)}"
        )
    x, y = image.to(torch.float64), target.to(torch.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)  # [N, 3, H - 10, W - 10]
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * WHITE) ** 2, (K2 * WHITE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(dim=1)  # [N]


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


def _windowed(x: Tensor) -> Tensor:
    """Gaussian mean around every pixel whose window lies inside the image; [N, 3, H, W] -> [N, 3, H - 10, W - 10]."""
    offset = torch.arange(WINDOW_SIZE_PIXELS, dtype=x.dtype, device=x.device) - WINDOW_SIZE_PIXELS // 2
    window = torch.exp(-offset.square() / (2 * WINDOW_SIGMA_PIXELS**2))
    window = (window / window.sum()).expand(3, 1, 1, -1)
    rows = F.conv2d(x, window, groups=3)
    return F.conv2d(rows, window.transpose(2, 3), groups=3)
