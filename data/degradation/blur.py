"""Blur kernels, one per image, and their application to a batch."""

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

from data.degradation.resampling import resize, resize_along

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


def blur_and_resize(image: Tensor, kernel: Tensor, size: int) -> Tensor:
    """Correlates an image with a kernel, then resizes it; borders are mirrored without their edge (reflect 101).

    Args:
        image: [1, C, R, R], float32, any range.
        kernel: [K, K], K odd and K // 2 below R.
        size: New width S.

    Returns:
        [1, C, S, S]; through the Fourier transform within 1e-6 of the direct sum for images in [0, 1].
    """
    if kernel.shape[-1] <= LARGEST_DIRECT_KERNEL_PIXELS:
        return resize(filter2d(image, kernel[None], border_type="reflect"), size)
    margin, resolution = kernel.shape[-1] // 2, image.shape[-1]
    padded = F.pad(image.contiguous(), (margin, margin, margin, margin), mode="reflect")
    # Multiples of 32 have small prime factors. Nothing wraps around: from the last kept pixel the kernel just reaches
    # the last padded one.
    period = -(-padded.shape[-1] // 32) * 32
    spectrum = torch.fft.rfft2(padded, s=(period, period))  # [1, C, P, P // 2 + 1]
    # Of the kernel and of the result only the rows that matter are transformed: resizing is linear, so the rows are
    # resized while the columns are still frequencies.
    spectrum *= torch.fft.fft(torch.fft.rfft(kernel, n=period), n=period, dim=-2).conj()
    rows = resize_along(torch.fft.ifft(spectrum, dim=-2)[..., :resolution, :], size, dim=-2)  # [1, C, S, P // 2 + 1]
    return resize_along(torch.fft.irfft(rows, n=period)[..., :resolution], size, dim=-1)


def _turned_coordinates(angle: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates relative to the centre, along and across the angle, each [N, K, K]."""
    axis = torch.arange(kernel_size, device=angle.device, dtype=angle.dtype) - kernel_size // 2
    rows, columns = axis[:, None], axis[None, :]
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return cosine * columns + sine * rows, cosine * rows - sine * columns


def _normalised(kernels: Tensor) -> Tensor:
    """Divides each kernel by its sum."""
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)
