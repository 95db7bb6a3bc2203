"""The exponential moving average of the generator, which is what validation, pictures and export use."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MovingAverage:
    """How fast the averaged generator follows the trained one.

    Source: StyleGAN2 (half-life 10,000 images); the ramp-up is stylegan2-ada's.
    """

    half_life_images: float = 10_000.0
    """Images after which an old weight counts half."""
    ramp_up: float | None = 0.05
    """The half-life is at most this share of the images seen so far, so that the average leaves the random start
    quickly; null for no ramp-up."""

    def __post_init__(self) -> None:
        if self.half_life_images <= 0 or (self.ramp_up is not None and self.ramp_up <= 0):
            raise ValueError(
                f"half_life_images and ramp_up must be above 0, got {self.half_life_images} and {self.ramp_up}"
            )

    def decay(self, images_seen: int, batch_size: int) -> float:
        """Weight of the old average in the update after `images_seen` images, of which `batch_size` are new."""
        half_life = self.half_life_images
        if self.ramp_up is not None:
            half_life = min(half_life, images_seen * self.ramp_up)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def follow(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Moves the average towards the generator: average·decay + generator·(1 - decay); buffers are copied."""
    averaged: list[Tensor] = list(average.parameters())
    trained: list[Tensor] = list(generator.parameters())
    torch._foreach_lerp_(averaged, trained, 1.0 - decay)
    for ours, theirs in zip(average.buffers(), generator.buffers(), strict=True):
        ours.copy_(theirs)
