"""StyleGAN2's residual discriminator, which also hands out its features, and those that see eyes and mouth alone."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.layers import EqualizedConvolution, EqualizedLinear
from models.operators.convolution import run_block, without_autocast
from models.operators.resampling import Downsample, LowPass


class Judgement(NamedTuple):
    """What the discriminator says about a batch."""

    logits: Tensor
    """[N] float32; positive for real."""
    features: list[Tensor]
    """[N, C, H, W] after every residual block, from high to low resolution."""


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the second of stride 2, beside a 1×1 convolution of stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # The sum is divided by √2, which is done in the weights: leaky ReLU is positively homogeneous.
        self.plain = EqualizedConvolution(in_channels, in_channels, 3, padding=1)
        self.low_pass = LowPass(in_channels, padding=2)
        self.down = EqualizedConvolution(in_channels, out_channels, 3, stride=2, gain=1 / math.sqrt(2))
        self.skip_down = Downsample(in_channels)
        self.skip = EqualizedConvolution(in_channels, out_channels, 1, activate=False, gain=1 / math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, out_channels, H/2, W/2]."""
        main = self.down(self.low_pass(self.plain(x)))
        return main + self.skip(self.skip_down(x))


class Discriminator(nn.Module):
    """Real or generated? Resolution and channels are the architecture's, whose noise mode plays no role.

    In a minibatch group, of neighbours in the batch, the standard deviation is compared; None takes the whole batch of
    a call, as GPEN's public code does. StyleGAN2 uses 4.

    Source: StyleGAN2 (arXiv 1912.04958) figure 7c; minibatch standard deviation: arXiv 1710.10196 section 3.
    """

    def __init__(self, architecture: Architecture, minibatch_group_size: int | None = 4) -> None:
        super().__init__()
        if minibatch_group_size is not None and minibatch_group_size < 1:
            raise ValueError(
                f"minibatch_group_size must be 1 or more, or null for the batch, got {minibatch_group_size}"
            )
        downwards = architecture.resolutions[::-1]
        channels = [architecture.channels(r) for r in downwards]
        self.from_rgb = EqualizedConvolution(3, channels[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(above, below) for above, below in itertools.pairwise(channels))
        self.final = EqualizedConvolution(channels[-1] + 1, channels[-1], 3, padding=1)
        self.hidden = EqualizedLinear(channels[-1] * downwards[-1] ** 2, channels[-1], activate=True)
        self.to_logit = EqualizedLinear(channels[-1], 1)
        self.architecture = architecture
        self.minibatch_group_size = minibatch_group_size
        self.recompute = False
        """Keep only what lies between the blocks for the backward pass, see `run_block`."""

    def forward(self, image: Tensor, num_batches: int = 1) -> Judgement:
        """Judges images [N, 3, R, R] in [-1, 1].

        They are `num_batches` batches one after another; each is judged as if it were alone, and all in one pass.
        Raises ValueError where a batch is larger than a minibatch group but no multiple of it.
        """
        x = self.from_rgb(image.contiguous(memory_format=torch.channels_last))
        features = []
        for block in self.blocks:
            x = run_block(block, x, recompute=self.recompute)
            features.append(x)
        x = self.final(append_deviation(x, self.minibatch_group_size, num_batches))
        with without_autocast(x.device):
            x = self.hidden(x.float().contiguous().flatten(1))
            return Judgement(self.to_logit(x)[:, 0], features)


def append_deviation(x: Tensor, group_size: int | None, num_batches: int = 1) -> Tensor:
    """Appends the minibatch standard deviation to [N, C, H, W] as one more channel.

    `group_size` neighbours form a group; the whole batch for None or where it is larger. ValueError where N is no
    multiple of it.

    Source: arXiv 1710.10196 section 3. Groups are neighbours, not strided as in StyleGAN2, so that they stay the same
    however a batch is divided among processes.
    """
    num_images = x.shape[0] // num_batches
    group = num_images if group_size is None else min(group_size, num_images)
    if num_images % group != 0:
        raise ValueError(
            f"a batch of {num_images} images per process cannot be divided into minibatch groups of {group}; "
            "choose a batch that is a multiple of it"
        )
    grouped = x.float().reshape(-1, group, *x.shape[1:])  # [N/G, G, C, H, W]
    deviation = torch.sqrt(grouped.var(dim=1, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))  # [N/G]
    channel = deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel.to(x.dtype)], dim=1)


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
    """Real or restored, place by place? The first features have C channels, the last ones 4 C."""

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
    """Cuts eyes and mouth out of faces [N, 3, R, R], R a multiple of 32, that are aligned as FFHQ's are: eyes [2 N, 3,
    R/4, R/4], for each image the right one and the mirrored left one, and mouths [N, 3, 3R/8, 3R/8]."""
    right, left, mouth = (_crop(image, region) for region in (RIGHT_EYE, LEFT_EYE, MOUTH))
    return torch.stack([right, left.flip(3)], dim=1).flatten(0, 1), mouth


def _crop(image: Tensor, region: tuple[int, int, int, int]) -> Tensor:
    left, top, right, bottom = (part * image.shape[-1] // GRID for part in region)
    return image[:, :, top:bottom, left:right]
