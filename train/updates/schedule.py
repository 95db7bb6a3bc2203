"""How learning rates change over a run: a function of the images seen alone."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RateSchedule:
    """The factor of all learning rates of a run, also the discriminator's.

    It depends on the images seen and on nothing else, so that a continued run has the same rates to the bit. Its end is
    stated here and does not follow `run.total_images`, which may be raised later.
    """

    warm_up_images: int = 0
    """Images over which the rates rise linearly from 0; 0 for none."""
    decay: Literal["cosine", "linear"] | None = None
    """How they fall over `decay_range_images`; null for not at all."""
    decay_range_images: tuple[int, int] | None = None
    """Images seen where they begin to fall and where they are down."""
    last_share: float = 0.0
    """Share of the rates from there on; with 0 nothing is learned any more."""

    def __post_init__(self) -> None:
        if (self.decay is None) != (self.decay_range_images is None):
            raise ValueError(
                f"schedule: decay and decay_range_images need each other, got {self.decay} and "
                f"{self.decay_range_images}; give both or neither"
            )
        low, high = self.decay_range_images or (0, 1)
        if self.warm_up_images < 0 or not 0 <= low < high or not 0 <= self.last_share <= 1:
            raise ValueError(
                "schedule: warm_up_images must be 0 or more, decay_range_images rising from 0 or more and "
                f"last_share in [0, 1], got {self.warm_up_images}, ({low}, {high}) and {self.last_share:g}"
            )

    @property
    def is_constant(self) -> bool:
        """Whether the rates stay as they are."""
        return self.warm_up_images == 0 and self.decay is None

    def factor(self, images_seen: int) -> float:
        """Factor of the rates, [0, 1], in the iteration at whose end so many images were seen.

        Source: linear warm-up as in arXiv 1706.02677, section 2.2; cosine as in arXiv 1608.03983, equation 5, without
        restarts.
        """
        risen = min(images_seen / self.warm_up_images, 1.0) if self.warm_up_images else 1.0
        if self.decay is None or self.decay_range_images is None:
            return risen
        low, high = self.decay_range_images
        position = min(max((images_seen - low) / (high - low), 0.0), 1.0)
        left = 1 - position if self.decay == "linear" else (1 + math.cos(math.pi * position)) / 2
        return risen * (self.last_share + (1 - self.last_share) * left)
