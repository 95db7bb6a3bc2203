"""Discriminators that see eyes and mouth alone, which stand at constant places of aligned faces."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.discriminator import ResidualBlock
from models.equalized import EqualizedConvolution
from models.operators.passes import without_autocast

GRID = 32
"""Regions are given in this many parts of the side, so that they are whole pixels from 32 pixels on."""
RIGHT_EYE, LEFT_EYE = (8, 11, 16, 19), (16, 11, 24, 19)
"""Left, top, right and bottom in parts of the side; the person's right eye is at the picture's left."""
MOUTH = (10, 17, 22, 29)


class ComponentJudgement(NamedTuple):
    """What a discriminator says about a component of each image of a batch."""

    logits: Tensor
    """[M, h, w] float32, positive for real; M = 2 N for eyes, those of an image one after the other, or N."""
    features: list[Tensor]
    """[M, C, H, W] after every residual block."""


class ComponentDiscriminator(nn.Module):
    """Real or restored, place by place?

    Args:
        channels: C of the first features; the last ones have 4 C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_rgb = EqualizedConvolution(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList([ResidualBlock(channels, 2 * channels), ResidualBlock(2 * channels, 4 * channels)])
        self.to_logits = EqualizedConvolution(4 * channels, 1, 3, padding=1, activate=False)

    def forward(self, component: Tensor) -> ComponentJudgement:
        """Judges crops [M, 3, H, W] in [-1, 1], sides multiples of 4; the logits stand four pixels apart."""
        x = self.from_rgb(component.contiguous(memory_format=torch.channels_last))
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        with without_autocast(x.device):
            return ComponentJudgement(self.to_logits(x.float())[:, 0], features)


class ComponentDiscriminators(nn.Module):
    """One discriminator for both eyes, the left one mirrored, and one for the mouth.

    Args:
        architecture: Resolution and channels.

    Source: GFPGAN (arXiv 2101.04061) section 3.4. Differs in its regions, which are constants of FFHQ's alignment
    instead of detected landmarks, in one discriminator for both eyes and in StyleGAN2's blocks.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels = architecture.channels(architecture.resolution)
        self.eyes = ComponentDiscriminator(channels)
        self.mouth = ComponentDiscriminator(channels)

    def forward(self, image: Tensor) -> list[ComponentJudgement]:
        """Judges eyes and mouth of aligned faces [N, 3, R, R] in [-1, 1]."""
        eyes, mouth = crop_components(image)
        return [self.eyes(eyes), self.mouth(mouth)]


def crop_components(image: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts eyes and mouth out of faces that are aligned as FFHQ's are.

    Args:
        image: [N, 3, R, R], R a multiple of 32.

    Returns:
        Eyes [2 N, 3, R/4, R/4], for each image the right one and the mirrored left one, and mouths [N, 3, 3R/8, 3R/8].
    """
    right, left, mouth = (_crop(image, region) for region in (RIGHT_EYE, LEFT_EYE, MOUTH))
    return torch.stack([right, left.flip(3)], dim=1).flatten(0, 1), mouth


def _crop(image: Tensor, region: tuple[int, int, int, int]) -> Tensor:
    left, top, right, bottom = (part * image.shape[-1] // GRID for part in region)
    return image[:, :, top:bottom, left:right]
