"""Blur kernels, one per image, their application, and resizing as OpenCV and Pillow do it."""

import math

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

from data.degradation.presets import ResizeMode

SMALLEST_SIGMA_PIXELS = 1e-3
"""A Gaussian this narrow is a single pixel; dividing by smaller sigmas would give 0 * infinity."""

LARGEST_DIRECT_KERNEL_PIXELS = 15
"""Wider kernels are applied through the Fourier transform, which is faster from there on (measured at 128 to 512)."""


def gaussian_kernels(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, kernel_size: int) -> Tensor:
    """Samples Gaussian densities of standard deviations in pixels along an angle and across it, from 0 (a single
    pixel), each [N]: [N, K, K], non-negative, each kernel sums to 1; K is odd. Angles are radians, from the column axis
    towards the row axis (clockwise as displayed)."""
    return _normalised(torch.exp(-0.5 * _squared_distances(sigma_x, sigma_y, angle, kernel_size)))


def generalised_kernels(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, power: Tensor, kernel_size: int) -> Tensor:
    """Generalised Gaussians exp(-(d²)^β / 2), d being the distance in standard deviations, as `gaussian_kernels` gives
    with a power β, [N], of 1.

    Source: Liu et al., arXiv 2004.12752, as used by Real-ESRGAN (arXiv 2107.10833), section 3.2.
    """
    squares = _squared_distances(sigma_x, sigma_y, angle, kernel_size)
    return _normalised(torch.exp(-0.5 * squares ** power[:, None, None]))


def plateau_kernels(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, power: Tensor, kernel_size: int) -> Tensor:
    """Plateau-shaped kernels 1 / (1 + (d²)^β); arguments, result and source as for `generalised_kernels`."""
    squares = _squared_distances(sigma_x, sigma_y, angle, kernel_size)
    return _normalised(1 / (1 + squares ** power[:, None, None]))


def sinc_kernels(cutoff: Tensor, kernel_size: int) -> Tensor:
    """Circular low-pass filters without any transition, which ring as sharpened and strongly compressed pictures do, of
    a cutoff ω in radians per pixel, [N], above 0 (π keeps the frequencies along the axes), and an odd width K in
    pixels.

    Gives [N, K, K], with negative values, each kernel sums to 1: ω J1(ω r) / (2π r) at distance r, ω² / 4π in the
    middle.

    Source: Real-ESRGAN (arXiv 2107.10833), equation 5.
    """
    axis = torch.arange(kernel_size, device=cutoff.device, dtype=cutoff.dtype) - kernel_size // 2
    radius = torch.hypot(axis[:, None], axis[None, :])[None]  # [1, K, K]
    cutoff = cutoff[:, None, None]
    ring = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1))
    return _normalised(torch.where(radius == 0, cutoff**2 / (4 * math.pi), ring))


def motion_kernels(length: Tensor, angle: Tensor, kernel_size: int) -> Tensor:
    """Draws anti-aliased lines through the centre: a camera that moves evenly along a straight line.

    kornia's `get_motion_kernel2d` takes one odd length for the whole batch; here every image has its own real length,
    [N], from 1 (a single pixel) to K. At 0 and 90 degrees and odd lengths the two are equal. Gives [N, K, K],
    non-negative, each kernel sums to 1.
    """
    along, across = _turned_coordinates(angle, kernel_size)  # [N, K, K]
    beyond_end = (along.abs() - (length[:, None, None] - 1) / 2).clamp_min(0)
    return _normalised((1 - torch.hypot(beyond_end, across)).clamp_min(0))


def blur_and_resize(image: Tensor, kernel: Tensor, size: int, mode: ResizeMode = "bilinear") -> Tensor:
    """Correlates an image [1, C, R, R], float32, with a kernel [K, K], K odd and K // 2 below R, then resizes it to [1,
    C, S, S]; borders are mirrored without their edge (reflect 101). Through the Fourier transform within 1e-6 of the
    direct sum for images in [0, 1]."""
    if kernel.shape[-1] <= LARGEST_DIRECT_KERNEL_PIXELS:
        return resize(filter2d(image, kernel[None], border_type="reflect"), size, mode)
    margin, resolution = kernel.shape[-1] // 2, image.shape[-1]
    padded = F.pad(image.contiguous(), (margin, margin, margin, margin), mode="reflect")
    # Multiples of 32 have small prime factors. Nothing wraps around: from the last kept pixel the kernel just reaches
    # the last padded one.
    period = -(-padded.shape[-1] // 32) * 32
    spectrum = torch.fft.rfft2(padded, s=(period, period))  # [1, C, P, P // 2 + 1]
    if mode != "bilinear":
        spectrum *= torch.fft.rfft2(kernel, s=(period, period)).conj()
        return resize(torch.fft.irfft2(spectrum, s=(period, period))[..., :resolution, :resolution], size, mode)
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


def _squared_distances(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, kernel_size: int) -> Tensor:
    """Squared distances from the centre in standard deviations, [N, K, K]."""
    along, across = _turned_coordinates(angle, kernel_size)
    sigma_x = sigma_x.clamp_min(SMALLEST_SIGMA_PIXELS)[:, None, None]
    sigma_y = sigma_y.clamp_min(SMALLEST_SIGMA_PIXELS)[:, None, None]
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def _normalised(kernels: Tensor) -> Tensor:
    """Divides each kernel by its sum."""
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


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
