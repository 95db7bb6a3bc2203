"""What taking and storing a picture adds: noise of the sensor, 8 bits, JPEG of a batch and WebP of one image."""

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import jpeg_codec_differentiable
from PIL import Image
from torch import Tensor

from data.degradation.parameters import RoundParameters

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
