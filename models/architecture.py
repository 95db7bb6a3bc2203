"""The numbers that determine the networks of one run, and the channel table of the public implementation."""

import math
from dataclasses import dataclass
from typing import Literal

NoiseMode = Literal["concat", "add", "none"]
FedConvolutions = Literal["both", "first", "second"]

LOWEST_RESOLUTION = 32
HIGHEST_RESOLUTION = 2048


@dataclass(frozen=True)
class Architecture:
    """Shape of prior, GPEN and discriminator; ValueError where numbers are out of range, all problems named together.

    Source: GPEN (arXiv 2105.06070) section 3, channel table of its public implementation.
    """

    resolution: int = 512
    """Height and width of the faces in pixels, a power of two from 32 to 2048."""
    channel_multiplier: int = 2
    """Factor on the channels from 64 pixels upwards; the public 512 model uses 2, the 256 model 1."""
    narrow: float = 1.0
    """Factor on all channels; the public 512 model uses 1, the 256 model 0.5."""
    noise_mode: NoiseMode = "concat"
    """`concat` is GPEN's, `add` StyleGAN2's, `none` leaves the noise inputs out."""
    style_dim: int = 512
    """Width of latent and style vectors."""
    num_mapping_layers: int = 8
    """Linear layers between latent and style."""
    fed_convolutions: FedConvolutions = "both"
    """Which of the two convolutions of a resolution take the encoder's features in GPEN: `both` is GPEN's, `first` the
    one that upsamples, `second` the one after it; the other one takes zeros. At 4×4 there is one, which always does."""
    encoder_resolution: int | None = None
    """Pixels at which the encoder of GPEN begins, where faces are enlarged as public FullGenerator_SR does: they are
    reduced to it first, and the layers above take zeros. null for the full resolution."""

    def __post_init__(self) -> None:
        problems = []
        is_power = self.resolution > 0 and self.resolution & (self.resolution - 1) == 0
        if not is_power or not LOWEST_RESOLUTION <= self.resolution <= HIGHEST_RESOLUTION:
            problems.append(
                f"resolution must be a power of two from {LOWEST_RESOLUTION} to {HIGHEST_RESOLUTION}, "
                f"got {self.resolution}; crop or resize the faces first"
            )
        lowest = self.encoder_resolution
        if lowest is not None and (lowest & (lowest - 1) or not LOWEST_RESOLUTION <= lowest < self.resolution):
            problems.append(
                f"encoder_resolution must be null or a power of two from {LOWEST_RESOLUTION} to below resolution, got "
                f"{lowest}"
            )
        if not 1 <= self.channel_multiplier <= 8:
            problems.append(f"channel_multiplier must be from 1 to 8, got {self.channel_multiplier}")
        if not math.isfinite(self.narrow) or not 1 / 128 <= self.narrow <= 8:
            problems.append(f"narrow must be from 1/128 to 8, got {self.narrow}")
        if self.noise_mode not in ("concat", "add", "none"):
            problems.append(f"noise_mode must be concat, add or none, got {self.noise_mode}")
        if self.fed_convolutions not in ("both", "first", "second"):
            problems.append(f"fed_convolutions must be both, first or second, got {self.fed_convolutions}")
        if not 1 <= self.style_dim <= 4096:
            problems.append(f"style_dim must be from 1 to 4096, got {self.style_dim}")
        if not 1 <= self.num_mapping_layers <= 64:
            problems.append(f"num_mapping_layers must be from 1 to 64, got {self.num_mapping_layers}")
        if not problems and min(self.channels(r) for r in self.resolutions) < 1:
            problems.append(f"narrow {self.narrow} leaves a layer without channels; raise it")
        if problems:
            raise ValueError("; ".join(problems))

    def in_words(self) -> str:
        """All of it in one line, as people read it; of the encoder only what differs from GPEN's."""
        words = f"resolution {self.resolution}, channel multiplier {self.channel_multiplier}, narrow {self.narrow:g}, "
        words += f"noise mode {self.noise_mode}, styles of {self.style_dim} numbers by {self.num_mapping_layers} layers"
        if self.fed_convolutions != "both":
            words += f", the encoder's features to the {self.fed_convolutions} convolution of a resolution only"
        return words + f", encoder from {self.encoder_resolution} pixels" * (self.encoder_resolution is not None)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions from 4 to the full one, in pixels."""
        return tuple(2**power for power in range(2, self.resolution.bit_length()))

    @property
    def num_styles(self) -> int:
        """L, the number of layers that take a style of their own (a ToRGB shares with the convolution after it)."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Channels of the features at one of the `resolutions`, in pixels.

        Source: public implementation; 512·n up to 32 pixels, then 16384·m·n / resolution.
        """
        if resolution <= 32:
            return int(512 * self.narrow)
        return int(16384 // resolution * self.channel_multiplier * self.narrow)

    def noise_channels(self, resolution: int) -> int:
        """Channels of a random noise map at a resolution: as many as the features for `concat`, 1 for `add`."""
        return self.channels(resolution) if self.noise_mode == "concat" else 1

    def features(self, resolution: int) -> int:
        """Channels that a decoder layer hands on: `concat` doubles them."""
        return self.channels(resolution) * (2 if self.noise_mode == "concat" else 1)
