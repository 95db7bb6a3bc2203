"""What a degradation preset says (ranges) and what one image gets (numbers); degradation.py applies them."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from data.randomness import derive_seed

REFERENCE_RESOLUTION = 512
"""Kernel sizes, blur sigmas and motion lengths of a preset are pixels of an image of this resolution."""

Range = tuple[float, float]


@dataclass(frozen=True)
class BlurRanges:
    """Which blur an image gets; lengths are pixels at 512 and scale with the resolution."""

    probability: float = 1.0
    """Share of images that are blurred at all."""
    kernel_size_pixels: int = 41
    """Width of every kernel at 512, odd; at other resolutions the nearest odd number from 3."""
    sigma_range: Range = (0.1, 10.0)
    """Standard deviation of the Gaussian in pixels at 512, uniform; drawn once per axis if anisotropic."""
    isotropic_probability: float = 0.5
    """Share of the Gaussian kernels that are round; the others get two sigmas and an angle."""
    motion_probability: float = 0.0
    """Share of the blurred images that get motion blur in place of the Gaussian."""
    motion_length_range: Range = (5.0, 41.0)
    """Length of the motion in pixels at 512, uniform; at most the kernel size."""
    angle_range: Range = (-180.0, 180.0)
    """Angle of the longer axis in degrees, uniform, for anisotropic and motion blur (rows count downwards)."""


@dataclass(frozen=True)
class RoundRanges:
    """One round of blur, downscaling, noise, JPEG and resizing back."""

    blur: BlurRanges = field(default_factory=BlurRanges)
    """The blur kernel."""
    downscale_range: Range = (0.8, 8.0)
    """Factor s, uniform; the small image is int(resolution / s) wide. Does not scale with the resolution."""
    noise_sigma_range: Range = (0.0, 20.0)
    """Standard deviation of the Gaussian noise in units of 1/255, uniform."""
    jpeg_probability: float = 1.0
    """Share of images that are compressed."""
    jpeg_quality_range: tuple[int, int] = (60, 100)
    """JPEG quality, uniform over the integers from low to high, both included."""


@dataclass(frozen=True)
class ColorRanges:
    """Grey images and colour jitter, applied after the last round."""

    grey_probability: float = 0.0
    """Share of images that lose their colour."""
    grey_target: bool = True
    """Whether the target of a grey image is grey too; False asks the network to invent colour."""
    jitter_probability: float = 0.0
    """Share of degraded images whose colours are changed (never the target's)."""
    brightness_range: Range = (1.0, 1.0)
    """Factor on all channels, uniform; 1 changes nothing."""
    contrast_range: Range = (1.0, 1.0)
    """Factor on the distance from the mean grey of the image, uniform; 1 changes nothing."""
    saturation_range: Range = (1.0, 1.0)
    """Factor on the distance of each pixel from its own grey, uniform; 1 changes nothing, 0 is grey."""


@dataclass(frozen=True)
class DegradationRanges:
    """What a degradation preset says; the defaults are the released GPEN script without its grey images.

    Raises:
        ValueError: If numbers contradict each other; one line that lists all problems.

    Source:
        I_d = resize(JPEG_q((I * k) downscaled by s + n)), equation 4 of arXiv 2105.06070.
    """

    first: RoundRanges = field(default_factory=RoundRanges)
    """The first, usually only, round."""
    second: RoundRanges | None = None
    """A second round on the result of the first; None: one round."""
    second_probability: float = 1.0
    """Share of images that go through the second round, if there is one."""
    color: ColorRanges = field(default_factory=ColorRanges)
    """Grey images and colour jitter."""

    def __post_init__(self) -> None:
        problems = _probability_problems(self, "")
        problems += _round_problems(self.first, "first.")
        problems += _round_problems(self.second, "second.") if self.second is not None else []
        problems += _probability_problems(self.color, "color.")
        for name in ("brightness_range", "contrast_range", "saturation_range"):
            problems += _range_problems(f"color.{name}", getattr(self.color, name), 0.0, math.inf)
        if problems:
            raise ValueError(f"degradation ranges: {'; '.join(problems)}")


@dataclass(frozen=True)
class BlurKernel:
    """The blur of one image, in its own pixels."""

    kind: Literal["gaussian", "motion"]
    """Gaussian reads the sigmas, motion the length."""
    kernel_size_pixels: int
    """Odd width of the kernel."""
    sigma_x_pixels: float = 0.0
    """Standard deviation along the angle."""
    sigma_y_pixels: float = 0.0
    """Standard deviation across the angle."""
    length_pixels: float = 1.0
    """Length of the motion; 1 changes nothing."""
    angle_radians: float = 0.0
    """Angle of the x axis of the kernel, rows counting downwards."""


@dataclass(frozen=True)
class RoundParameters:
    """What one image gets in one round."""

    blur: BlurKernel | None
    """None: no blur."""
    downscale: float
    """Factor s; the small image is int(resolution / s) wide."""
    noise_sigma: float
    """Standard deviation of the noise in units of 1/255."""
    noise_seed: int
    """Seed of the noise field; the field also depends on the kind of device."""
    jpeg_quality: int | None
    """From 1 to 100; None: not compressed."""


@dataclass(frozen=True)
class DegradationParameters:
    """What one image gets: plain numbers that can be logged, stored as JSON and replayed."""

    resolution: int
    """Resolution of the image the pixel lengths were scaled to."""
    rounds: tuple[RoundParameters, ...]
    """One or two rounds."""
    grey: bool = False
    """Whether the degraded image loses its colour."""
    grey_target: bool = True
    """Whether a grey image has a grey target."""
    brightness: float = 1.0
    """Factor on all channels."""
    contrast: float = 1.0
    """Factor on the distance from the mean grey of the image."""
    saturation: float = 1.0
    """Factor on the distance of each pixel from its own grey."""

    def to_dict(self) -> dict[str, Any]:
        """Returns nested dictionaries and lists that `json.dumps` accepts."""
        return dataclasses.asdict(self) | {"rounds": [dataclasses.asdict(one) for one in self.rounds]}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "DegradationParameters":
        """Rebuilds the parameters from `to_dict`, also after a round trip through JSON.

        Raises:
            ValueError: If a field is missing or unknown.
        """
        try:
            rounds = tuple(
                RoundParameters(**{**one, "blur": one["blur"] and BlurKernel(**one["blur"])})
                for one in values["rounds"]
            )
            return DegradationParameters(**{**values, "rounds": rounds})
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are not stored degradation parameters: {error}") from error


def sample_parameters(ranges: DegradationRanges, seed: int, image_index: int, resolution: int) -> DegradationParameters:
    """Draws what the k-th image of a run gets.

    Args:
        ranges: The preset.
        seed: Seed of the run.
        image_index: Image index k in the whole run, over all processes.
        resolution: Resolution R of the image in pixels; lengths given at 512 are scaled by R / 512.

    Returns:
        A function of (ranges, seed, image_index, resolution) alone. Every number is drawn whether it is used or not, so
        that changing one probability or range leaves the other draws as they are.

    Raises:
        ValueError: If the largest downscaling leaves less than one pixel.
    """
    for one in (ranges.first, ranges.second):
        if one is not None and resolution < one.downscale_range[1]:
            raise ValueError(
                f"downscale_range goes up to {one.downscale_range[1]:g}, which leaves less than one pixel of "
                f"{resolution}; take a smaller factor, for example the preset small"
            )
    random = np.random.Generator(np.random.Philox(key=derive_seed(seed, "degradation", image_index)))
    rounds = [_sample_round(ranges.first, random, resolution, derive_seed(seed, "degradation-noise", image_index))]
    grey, jitter, second = random.random(3)
    color = ranges.color
    factors = [random.uniform(*r) for r in (color.brightness_range, color.contrast_range, color.saturation_range)]
    if jitter >= color.jitter_probability:
        factors = [1.0, 1.0, 1.0]
    if ranges.second is not None and second < ranges.second_probability:
        noise_seed = derive_seed(seed, "degradation-noise-second", image_index)
        rounds.append(_sample_round(ranges.second, random, resolution, noise_seed))
    is_grey = bool(grey < color.grey_probability)
    return DegradationParameters(resolution, tuple(rounds), is_grey, color.grey_target, *factors)


def scale_kernel_size(kernel_size_pixels: int, resolution: int) -> int:
    """Scales a kernel size given at 512 to the nearest odd number, at least 3 (41 at 512 is 21 at 256 and 5 at 64)."""
    scaled = kernel_size_pixels * resolution / REFERENCE_RESOLUTION
    return max(3, 2 * round((scaled - 1) / 2) + 1)


def _sample_round(
    ranges: RoundRanges, random: np.random.Generator, resolution: int, noise_seed: int
) -> RoundParameters:
    """Draws one round; the number of draws never depends on what was drawn."""
    blur = _sample_blur(ranges.blur, random, resolution)
    downscale, noise_sigma = random.uniform(*ranges.downscale_range), random.uniform(*ranges.noise_sigma_range)
    low, high = ranges.jpeg_quality_range
    compressed, quality = random.random() < ranges.jpeg_probability, int(random.integers(low, high, endpoint=True))
    return RoundParameters(blur, downscale, noise_sigma, noise_seed, quality if compressed else None)


def _sample_blur(ranges: BlurRanges, random: np.random.Generator, resolution: int) -> BlurKernel | None:
    """Draws the kernel of one image and scales it to the resolution."""
    blurred, isotropic, motion = random.random(3)
    scale = resolution / REFERENCE_RESOLUTION
    sigma_x, sigma_y = (scale * random.uniform(*ranges.sigma_range) for _ in range(2))
    length = max(1.0, scale * random.uniform(*ranges.motion_length_range))
    angle = math.radians(random.uniform(*ranges.angle_range))
    size = scale_kernel_size(ranges.kernel_size_pixels, resolution)
    if blurred >= ranges.probability:
        return None
    if motion < ranges.motion_probability:
        return BlurKernel("motion", size, length_pixels=min(length, float(size)), angle_radians=angle)
    if isotropic < ranges.isotropic_probability:
        return BlurKernel("gaussian", size, sigma_x, sigma_x)
    return BlurKernel("gaussian", size, sigma_x, sigma_y, angle_radians=angle)


def _round_problems(ranges: RoundRanges, prefix: str) -> list[str]:
    """Lists what is wrong with one round, one phrase each."""
    blur, problems = ranges.blur, _probability_problems(ranges, prefix)
    problems += _probability_problems(blur, f"{prefix}blur.")
    size = blur.kernel_size_pixels
    if size % 2 == 0 or not 3 <= size <= REFERENCE_RESOLUTION - 1:
        problems.append(f"{prefix}blur.kernel_size_pixels must be odd, from 3 to 511, got {size}")
    problems += _range_problems(f"{prefix}blur.sigma_range", blur.sigma_range, 0.0, math.inf)
    if blur.motion_probability > 0:
        problems += _range_problems(f"{prefix}blur.motion_length_range", blur.motion_length_range, 1.0, size)
    problems += _range_problems(f"{prefix}blur.angle_range", blur.angle_range, -360.0, 360.0)
    problems += _range_problems(f"{prefix}downscale_range", ranges.downscale_range, 0.25, math.inf)
    problems += _range_problems(f"{prefix}noise_sigma_range", ranges.noise_sigma_range, 0.0, 255.0)
    problems += _range_problems(f"{prefix}jpeg_quality_range", ranges.jpeg_quality_range, 1, 100)
    return problems


def _range_problems(name: str, pair: tuple[float, float], lowest: float, highest: float) -> list[str]:
    """Checks lowest <= low <= high <= highest."""
    low, high = pair
    if lowest <= low <= high <= highest and math.isfinite(high):
        return []
    bounds = f"{lowest:g} <= low <= high" + (f" <= {highest:g}" if math.isfinite(highest) else "")
    return [f"{name} must be (low, high) with {bounds}, got ({low:g}, {high:g})"]


def _probability_problems(ranges: object, prefix: str) -> list[str]:
    """Checks every field of a dataclass that is named probability."""
    named = {name: value for name, value in vars(ranges).items() if name.endswith("probability")}
    return [
        f"{prefix}{name} must be from 0 to 1, got {value:g}" for name, value in named.items() if not 0 <= value <= 1
    ]
