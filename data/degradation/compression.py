"""Compression as pictures meet it before they are sent: JPEG of a batch with a quality per image, WebP of one."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from kornia.enhance import jpeg_codec_differentiable
from PIL import Image
from torch import Tensor

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
