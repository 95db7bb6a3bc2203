"""What happens to the pixels of one image: blur, resizing as OpenCV and Pillow do it, noise, 8 bits, JPEG and WebP."""

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import filter2d
from PIL import Image
from torch import Tensor

from data.degradation.presets import ResizeMode
from data.degradation.sampling import RoundParameters

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


PHOTONS_AT_WHITE = 256
"""Of Poisson noise, before its factor: BasicSR's number for pictures of more than 128 levels."""


def draw_noise(seed: int, size: int, device: torch.device, num_channels: int = 3) -> Tensor:
    """Draws the N(0, 1) noise of one image, [1, C, size, size]; a GPU draws other numbers from a seed than a CPU."""
    random = torch.Generator(device).manual_seed(seed)
    return torch.randn(1, num_channels, size, size, generator=random, device=device)


def draw_poisson_noise(image: Tensor, seed: int, is_grey: bool) -> Tensor:
    """Draws how counted photons differ from what they would be on average in an image [1, 3, S, S] in [0, 1]: photons /
    256 minus the image, whose variance is image / 256, [1, 3, S, S], or [1, 1, S, S] where the photons of the luma are
    counted, for all channels alike. A GPU draws other numbers from the seed than a CPU.

    Source: BasicSR's random_add_poisson_noise (Real-ESRGAN, arXiv 2107.10833), whose number of photons depends on how
    many levels a picture has; here it is the same for all.
    """
    levels = (image.clamp(0, 1) * 255).round() / 255  # photons of what would be stored
    if is_grey:
        levels = rgb_to_grayscale(levels)
    random = torch.Generator(image.device).manual_seed(seed)
    return torch.poisson(levels.contiguous() * PHOTONS_AT_WHITE, generator=random) / PHOTONS_AT_WHITE - levels


def add_noise(image: Tensor, drawn: RoundParameters) -> Tensor:
    """Adds the noise of one image [1, 3, S, S]."""
    if drawn.poisson_scale > 0:
        return image.add(draw_poisson_noise(image, drawn.noise_seed, drawn.grey_noise), alpha=drawn.poisson_scale)
    if drawn.noise_sigma == 0:
        return image
    num_channels = 1 if drawn.grey_noise else 3
    noise = draw_noise(drawn.noise_seed, image.shape[-1], image.device, num_channels)
    return image.add(noise, alpha=drawn.noise_sigma / 255)


LARGEST_TOGETHER_PIXELS = 64
"""Wider images seldom share a canvas and are compressed one by one: twice would cost 0.6 ms at 64 pixels, but 1.7 ms at
128 and 3.2 ms at 192 (one core)."""


def round_to_8_bits(images: Tensor) -> Tensor:
    """Clamps to [0, 1] and rounds to multiples of 1/255, what writing and reading 8-bit pixels does."""
    return images.clamp(0, 1).mul_(255).round_().div_(255)


def compress_jpeg(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Compresses and decompresses images [N, 3, H, W], multiples of 1/255 in [0, 1], H and W multiples of 16, with
    4:2:0 chroma subsampling and N qualities from 1 to 100 (kornia gives nonsense at 0).

    Source: kornia's codec; 39 to 49 dB from libjpeg on noisy faces at quality 60 and above, 35 dB at 10. What is
    missing comes from its softened rounding and, mostly, from halving the chroma through a Gaussian where libjpeg
    averages squares of four; doubling it again is libjpeg's "fancy upsampling" in both.
    """
    # The qualities stay on the host: kornia checks their range, which would otherwise wait for the GPU.
    on_host = torch.tensor(qualities, dtype=torch.float32)
    # kornia's chroma subsampling is a convolution, which sums one image in another order than several, and the last bit
    # can flip a coefficient. So that no result depends on the batch, large images are compressed one by one, and a lone
    # small one twice, which costs next to nothing.
    if images.shape[-1] > LARGEST_TOGETHER_PIXELS:
        pairs = zip(images.split(1), on_host.split(1), strict=True)
        return round_to_8_bits(torch.cat([jpeg_codec_differentiable(image, quality) for image, quality in pairs]))
    doubled = len(qualities) == 1
    compressed = jpeg_codec_differentiable(torch.cat((images, images)) if doubled else images, on_host)
    return round_to_8_bits(compressed[: len(qualities)])


def compress_webp(image: Tensor, quality: int) -> Tensor:
    """Compresses and decompresses one image [1, 3, H, W], multiples of 1/255 in [0, 1], lossily with a quality from 0
    to 100: on the host, as no codec on the device would be libwebp's; a GPU waits for it."""
    pixels = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().contiguous().numpy()  # [H, W, 3]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality)
    file.seek(0)
    decoded = torch.from_numpy(np.array(Image.open(file, formats=["WEBP"]).convert("RGB")))
    return (decoded.permute(2, 0, 1)[None].to(image.device, torch.float32) / 255).contiguous(
        memory_format=torch.channels_last
    )


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
