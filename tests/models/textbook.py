"""StyleGAN2's layers as its papers write them: weights per image, zeros put between the pixels, dense filters.

Slow, and independent of `models`: tests compare the fast layers with it.

Source: StyleGAN2 (arXiv 1912.04958) section 2.2 and appendix B, StyleGAN (arXiv 1812.04948), Progressive GAN
(arXiv 1710.10196) section 4.1.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def fir_kernel(like: Tensor) -> Tensor:
    """[4, 4] with sum 1."""
    line = like.new_tensor([1, 3, 3, 1]) / 8
    return line[:, None] * line[None, :]


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros after every pixel, zeros around (before, after), a convolution, every down-th pixel."""
    num_images, channels, height, width = x.shape
    stretched = x.new_zeros(num_images * channels, 1, height * up, width * up)
    stretched[:, 0, ::up, ::up] = x.flatten(0, 1)
    stretched = F.pad(stretched, padding * 2)
    filtered = F.conv2d(stretched, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return filtered.reshape(num_images, channels, *filtered.shape[2:])


def modulated_convolution(
    x: Tensor, style: Tensor, parameters: Mapping[str, Tensor], upsample: bool = False, demodulate: bool = True
) -> Tensor:
    """Equations 1 and 3 of StyleGAN2, one weight per image and all images in one grouped convolution."""
    weight = parameters["weight"]
    out_channels, in_channels, size, _ = weight.shape
    affine, bias = parameters["modulation.weight"], parameters["modulation.bias"]
    modulation = style @ (affine / math.sqrt(affine.shape[1])).T + bias
    weights = weight[None] / math.sqrt(in_channels * size**2) * modulation[:, None, :, None, None]  # [N, O, I, K, K]
    if demodulate:
        weights = weights / (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    num_images = len(x)
    if upsample:
        # A transposed convolution is a convolution with the flipped weight over pixels with zeros between them.
        weights = weights.flip(3, 4)
        x = upfirdn(x, x.new_ones(1, 1), up=2, padding=(size - 1, size - 2))
    else:
        x = F.pad(x, (size // 2,) * 4)
    grouped = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weights.flatten(0, 1), groups=num_images)
    out = grouped.reshape(num_images, out_channels, *grouped.shape[2:])
    return upfirdn(out, 4 * fir_kernel(x), padding=(1, 1)) if upsample else out


def styled_layer(
    x: Tensor,
    style: Tensor,
    noise: Tensor | None,
    parameters: Mapping[str, Tensor],
    noise_mode: str,
    upsample: bool = False,
) -> Tensor:
    """Modulated convolution, noise, bias, leaky ReLU, in the order of figure 2c."""
    x = modulated_convolution(x, style, part(parameters, "convolution."), upsample)
    if noise is not None and noise_mode != "none":
        scaled = parameters["noise_strength"] * noise
        x = torch.cat([x, scaled], dim=1) if noise_mode == "concat" else x + scaled
    x = x + parameters["bias"].reshape(1, -1, 1, 1)
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def to_rgb(x: Tensor, style: Tensor, image: Tensor | None, parameters: Mapping[str, Tensor]) -> Tensor:
    """Modulated 1×1 convolution without demodulation on top of the upsampled image."""
    rgb = modulated_convolution(x, style, part(parameters, "convolution."), demodulate=False)
    rgb = rgb + parameters["bias"].reshape(1, 3, 1, 1)
    return rgb if image is None else rgb + upfirdn(image, 4 * fir_kernel(image), up=2, padding=(2, 1))


def part(parameters: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The parameters of a submodule."""
    return {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
