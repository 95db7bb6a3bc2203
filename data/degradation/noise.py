"""Noise of one image: Gaussian or of counted photons, in every channel for itself or in all alike."""

import torch
from kornia.color import rgb_to_grayscale
from torch import Tensor

from data.degradation.parameters import RoundParameters

PHOTONS_AT_WHITE = 256
"""Of Poisson noise, before its factor: BasicSR's number for pictures of more than 128 levels."""


def draw_noise(seed: int, size: int, device: torch.device, num_channels: int = 3) -> Tensor:
    """Draws the N(0, 1) noise of one image, [1, C, size, size]; a GPU draws other numbers from a seed than a CPU."""
    random = torch.Generator(device).manual_seed(seed)
    return torch.randn(1, num_channels, size, size, generator=random, device=device)


def draw_poisson_noise(image: Tensor, seed: int, is_grey: bool) -> Tensor:
    """Draws how counted photons differ from what they would be on average in an image [1, 3, S, S] in [0, 1].

    Returns:
        [1, 3, S, S], or [1, 1, S, S] where the photons of the luma are counted, for all channels alike: photons / 256
        minus the image, whose variance is image / 256. A GPU draws other numbers from the seed than a CPU.

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
