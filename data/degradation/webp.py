"""WebP compression of one image by libwebp, which Pillow brings: what pictures on the web go through today."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def compress_webp(image: Tensor, quality: int) -> Tensor:
    """Compresses and decompresses, lossy.

    On the host, as no codec on the device would be libwebp's; a GPU waits for it.

    Args:
        image: RGB [1, 3, H, W], multiples of 1/255 in [0, 1].
        quality: From 0 to 100.

    Returns:
        [1, 3, H, W], multiples of 1/255 in [0, 1], on the device of the image.
    """
    pixels = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().contiguous().numpy()  # [H, W, 3]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality)
    file.seek(0)
    decoded = torch.from_numpy(np.array(Image.open(file, formats=["WEBP"]).convert("RGB")))
    return (decoded.permute(2, 0, 1)[None].to(image.device, torch.float32) / 255).contiguous(
        memory_format=torch.channels_last
    )
