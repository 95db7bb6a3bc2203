"""Blur kernels, one per image, and their application to a batch."""

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

SMALLEST_SIGMA_PIXELS = 1e-3
"""A Gaussian this narrow is a single pixel; dividing by smaller sigmas would give 0 * infinity."""

LARGEST_DIRECT_KERNEL_PIXELS = 15
"""Wider kernels are applied through the Fourier transform, which is faster from there on (measured at 128 to 512)."""


def gaussian_kernels(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, kernel_size: int) -> Tensor:
    """Samples Gaussian densities whose axes are turned by an angle.

    Args:
        sigma_x: Standard deviations along the angle in pixels, [N], from 0 (a single pixel).
        sigma_y: Standard deviations across it, [N].
        angle: Radians, [N], from the column axis towards the row axis (clockwise as displayed).
        kernel_size: Odd width K in pixels.

    Returns:
        [N, K, K], non-negative, each kernel sums to 1.
    """
    along, across = _turned_coordinates(angle, kernel_size)  # [N, K, K]
    sigma_x = sigma_x.clamp_min(SMALLEST_SIGMA_PIXELS)[:, None, None]
    sigma_y = sigma_y.clamp_min(SMALLEST_SIGMA_PIXELS)[:, None, None]
    return _normalised(torch.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2)))


def motion_kernels(length: Tensor, angle: Tensor, kernel_size: int) -> Tensor:
    """Draws anti-aliased lines through the centre: a camera that moves evenly along a straight line.

    kornia's `get_motion_kernel2d` takes one odd length for the whole batch; here every image has its own real length.
    At 0 and 90 degrees and odd lengths the two are equal.

    Args:
        length: Lengths in pixels, [N], from 1 (a single pixel) to K.
        angle: Radians, [N], as in `gaussian_kernels`.
        kernel_size: Odd width K in pixels.

    Returns:
        [N, K, K], non-negative, each kernel sums to 1.
    """
    along, across = _turned_coordinates(angle, kernel_size)  # [N, K, K]
    beyond_end = (along.abs() - (length[:, None, None] - 1) / 2).clamp_min(0)
    return _normalised((1 - torch.hypot(beyond_end, across)).clamp_min(0))


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlates every image with its own kernel; borders are mirrored without repeating the edge (reflect 101).

    Args:
        images: [N, C, H, W], float32, any range.
        kernels: [N, K, K], K odd and K // 2 below H and W.

    Returns:
        [N, C, H, W]; through the Fourier transform within 1e-6 of the direct sum for images in [0, 1].
    """
    kernel_size = kernels.shape[-1]
    if kernel_size <= LARGEST_DIRECT_KERNEL_PIXELS:
        return filter2d(images, kernels, border_type="reflect")
    if images.device.type == "cpu":  # one image at a time stays in the cache: twice as fast as all at once
        pairs = zip(images.split(1), kernels.split(1), strict=True)
        return torch.cat([_blur_in_fourier_space(image, kernel) for image, kernel in pairs])
    return _blur_in_fourier_space(images, kernels)


def _blur_in_fourier_space(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlation as a product of spectra, [N, C, H, W]."""
    margin = kernels.shape[-1] // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    # Multiples of 32 have small prime factors. Nothing wraps around: from the last kept pixel the kernel just reaches
    # the last padded one.
    size = [-(-length // 32) * 32 for length in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=size)
    # A kernel's rows are transformed before zeros are put below them: half the time of rfft2.
    spectrum *= torch.fft.fft(torch.fft.rfft(kernels, n=size[1]), n=size[0], dim=-2).conj()[:, None]
    return torch.fft.irfft2(spectrum, s=size)[..., : images.shape[-2], : images.shape[-1]]


def _turned_coordinates(angle: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates relative to the centre, along and across the angle, each [N, K, K]."""
    axis = torch.arange(kernel_size, device=angle.device, dtype=angle.dtype) - kernel_size // 2
    rows, columns = axis[:, None], axis[None, :]
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return cosine * columns + sine * rows, cosine * rows - sine * columns


def _normalised(kernels: Tensor) -> Tensor:
    """Divides each kernel by its sum."""
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)
