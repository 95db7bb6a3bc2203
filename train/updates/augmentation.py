"""Adaptive augmentation of what the discriminator of stage 1 sees, for sets of few faces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data.randomness import derive_seed
from train.processes.strategy import average_over_processes
from train.updates.optimization import is_due

NUM_OPERATIONS, NUM_UNIFORM, NUM_NORMAL = 8, 5, 4
_LARGEST_SHIFT = 1 / 8
"""The largest shift by whole pixels, as a share of the side."""
_SCALE_DEVIATION, _BRIGHTNESS_DEVIATION, _CONTRAST_DEVIATION, _SATURATION_DEVIATION = 0.2, 0.2, 0.5, 1.0
"""Standard deviations: of the powers of 2 by which size, contrast and saturation change, and of added brightness."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly the discriminator's images are augmented.

    Source: Karras et al. 2020 (arXiv 2006.06676), section 3; differs as `augment` says.
    """

    target: float = 0.0
    """Mean sign of the discriminator's scores of real faces that the strength is steered to, 0.6 in the paper: above
    it, the discriminator knows the faces by heart and the strength grows; 0 for no augmentation."""
    initial_probability: float = 0.0
    """Strength at the start: the probability of each operation."""
    rise_images: int = 500_000
    """Images over which the strength rises from 0 to 1 where the mean sign stays above the target."""
    interval: int = 4
    """Iterations between two changes of the strength."""

    def __post_init__(self) -> None:
        are_shares = 0 <= self.target < 1 and 0 <= self.initial_probability <= 1
        if not are_shares or self.rise_images < 1 or self.interval < 1:
            raise ValueError(
                "augmentation: target must lie in [0, 1), initial_probability in [0, 1], rise_images and interval be 1 "
                f"or more, got {self.target:g}, {self.initial_probability:g}, {self.rise_images} and {self.interval}"
            )


class AdaptiveAugmentation(nn.Module):
    """Augments images with a strength that follows the discriminator, for a target above 0; its buffers are in
    checkpoints."""

    probability: Tensor
    signs: Tensor

    def __init__(self, settings: Augmentation) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("probability", torch.tensor(settings.initial_probability))
        self.register_buffer("signs", torch.zeros(2))  # sum and number since the last change

    def forward(self, images: Tensor, seed: int, purpose: str, image_indices: Sequence[int]) -> Tensor:
        """Augments images [N, 3, R, R] of about [-1, 1]; a function of seed, purpose, image indices and strength."""
        drawn = draw_augmentations(seed, purpose, image_indices).to(images.device, non_blocking=True)
        return augment(images, drawn, self.probability)

    @torch.no_grad()
    def follow(self, mean_sign: Tensor, iteration: int, num_images: int) -> None:
        """Notes the mean sign of this process' real scores, and changes the strength in every `interval`-th iteration.

        Nothing waits for the device. All processes call it together and have the same strength.
        """
        mean_sign = average_over_processes(mean_sign)
        is_finite = torch.isfinite(mean_sign)
        self.signs += torch.stack([mean_sign.where(is_finite, 0.0), is_finite.float()])
        if not is_due(iteration + 1, self.settings.interval):
            return
        total, number = self.signs.unbind()
        step = num_images * self.settings.interval / self.settings.rise_images
        direction = torch.sign(total - self.settings.target * number)
        self.probability.copy_((self.probability + step * direction).clamp(0, 1))
        self.signs.zero_()


def draw_augmentations(seed: int, purpose: str, image_indices: Sequence[int]) -> Tensor:
    """Draws what `augment` needs of each image, for a purpose of its own: float32 [N, 17] on the host, uniform numbers
    in [0, 1) that decide about each operation, uniform ones and normal ones that say how."""
    rows = []
    for image_index in image_indices:
        random = np.random.Generator(np.random.Philox(key=derive_seed(seed, purpose, image_index)))
        rows.append(np.concatenate([random.random(NUM_OPERATIONS + NUM_UNIFORM), random.standard_normal(NUM_NORMAL)]))
    return torch.from_numpy(np.stack(rows)).float()


def augment(images: Tensor, drawn: Tensor, probability: Tensor) -> Tensor:
    """Mirrors, turns, shifts and scales images [N, 3, R, R], about [-1, 1], and changes brightness, contrast and
    saturation, as drawn by `draw_augmentations`, [N, 17] on their device; the probability, a scalar, is that of each
    operation by itself.

    Gives float32 [N, 3, R, R], differentiable once in the images; those of probability 0 are the given ones but for
    rounding.

    Source: Karras et al. 2020 (arXiv 2006.06676), appendix B: pixel blitting, geometry and colour, without anisotropic
    scaling, fractional shifts, luma flip and hue; bilinear instead of band-limited.
    """
    applied = drawn[:, :NUM_OPERATIONS] < probability  # [N, 8]
    uniform = drawn[:, NUM_OPERATIONS : NUM_OPERATIONS + NUM_UNIFORM]
    normal = drawn[:, NUM_OPERATIONS + NUM_UNIFORM :]
    with torch.autocast(images.device.type, enabled=False):
        grid = functional.affine_grid(
            _geometry(applied[:, :5], uniform, normal[:, 0], images.shape[-1]), list(images.shape), align_corners=False
        )
        moved = functional.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
        return _recolour(moved, applied[:, 5:], normal[:, 1:])


def _geometry(applied: Tensor, uniform: Tensor, scale: Tensor, side: int) -> Tensor:
    """Where each place of the result comes from, [N, 2, 3] in coordinates from -1 to 1."""
    mirrored, quartered, shifted, scaled, turned = applied.unbind(1)
    quarters = (uniform[:, 1] * 4).floor() * (math.pi / 2)
    angle = quarters.where(quartered, 0.0) + (math.pi * (2 * uniform[:, 4] - 1)).where(turned, 0.0)
    size = torch.exp2(_SCALE_DEVIATION * scale).where(scaled, 1.0)
    sign = torch.where(mirrored & (uniform[:, 0] < 0.5), -1.0, 1.0)
    pixels = ((2 * uniform[:, 2:4] - 1) * (_LARGEST_SHIFT * side)).round().where(shifted[:, None], 0.0)  # [N, 2]
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    rows = [torch.stack([sign * cos, -sign * sin], 1), torch.stack([sin, cos], 1)]
    return torch.cat([torch.stack(rows, 1), pixels[:, :, None] * (2 / side)], dim=2)


def _recolour(images: Tensor, applied: Tensor, normal: Tensor) -> Tensor:
    brightness = (_BRIGHTNESS_DEVIATION * normal[:, 0]).where(applied[:, 0], 0.0)
    contrast = torch.exp2(_CONTRAST_DEVIATION * normal[:, 1]).where(applied[:, 1], 1.0)
    saturation = torch.exp2(_SATURATION_DEVIATION * normal[:, 2]).where(applied[:, 2], 1.0)
    changed = images * contrast[:, None, None, None] + (brightness * contrast)[:, None, None, None]
    grey = changed.mean(1, keepdim=True)
    return grey + (changed - grey) * saturation[:, None, None, None]
