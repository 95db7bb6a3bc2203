"""What one image gets: plain numbers, a function of (preset, seed, image index, resolution) alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data.degradation.presets import (
    REFERENCE_RESOLUTION,
    BlurRanges,
    DegradationRanges,
    MaskRanges,
    ResizeMode,
    RoundRanges,
)
from data.randomness import derive_seed

BlurKind = Literal["gaussian", "motion", "generalised", "plateau", "sinc"]


@dataclass(frozen=True)
class BlurKernel:
    """The blur of one image, in its own pixels."""

    kind: BlurKind
    """Motion reads the length, sinc the cutoff, the others the sigmas."""
    kernel_size_pixels: int
    sigma_x_pixels: float = 0.0
    """Standard deviation along the angle."""
    sigma_y_pixels: float = 0.0
    """Standard deviation across the angle."""
    length_pixels: float = 1.0
    """Length of the motion; 1 changes nothing."""
    angle_radians: float = 0.0
    """Angle of the x axis of the kernel, rows counting downwards."""
    power: float = 1.0
    """β of generalised and plateau kernels."""
    cutoff_radians: float = 0.0
    """Of sinc kernels, per pixel."""


@dataclass(frozen=True)
class RoundParameters:
    """What one image gets in one round."""

    blur: BlurKernel | None
    downscale: float
    """Factor s; the small image is int(resolution / s) wide."""
    noise_sigma: float
    """Standard deviation of the noise in units of 1/255."""
    noise_seed: int
    """Seed of the noise field; the field also depends on the kind of device."""
    jpeg_quality: int | None
    """From 1 to 100; None: no JPEG."""
    webp_quality: int | None = None
    """From 0 to 100; None: no WebP."""
    poisson_scale: float = 0.0
    """Factor on the noise of 256 photons at white; 0: no Poisson noise."""
    grey_noise: bool = False
    downscale_mode: ResizeMode = "bilinear"
    upscale_mode: ResizeMode = "bilinear"


@dataclass(frozen=True)
class Stroke:
    """One brush stroke, in the image's own pixels; (0, 0) is the middle of its first pixel."""

    width: float
    """Diameter of the brush."""
    points: tuple[tuple[float, float], ...]
    """(x, y) of the ends of its segments."""


@dataclass(frozen=True)
class MaskShapes:
    """What is painted over in one image."""

    strokes: tuple[Stroke, ...]
    boxes: tuple[tuple[int, int, int, int], ...]
    """First column, first row, and the columns and rows behind the last."""
    fill: float
    """From 0 (black) to 1 (white)."""


@dataclass(frozen=True)
class DegradationParameters:
    """What one image gets, by `DegradationRanges`: plain numbers that can be logged, stored as JSON and replayed."""

    resolution: int
    """Resolution of the image the pixel lengths were scaled to."""
    rounds: tuple[RoundParameters, ...]
    grey: bool = False
    grey_target: bool = True
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    mask: MaskShapes | None = None


LARGEST_TURN = 2 * math.pi / 5
"""Of a brush stroke between two segments, to one side and then to the other, as of a hand that rubs something out."""


def sample_parameters(ranges: DegradationRanges, seed: int, image_index: int, resolution: int) -> DegradationParameters:
    """Draws what the k-th image of a run gets at R pixels; lengths given at 512 are scaled by R / 512.

    A function of (ranges, seed, image_index, resolution) alone. Every number is drawn whether it is used or not, so
    that changing one probability or range leaves the other draws as they are. Raises ValueError where the largest
    downscaling leaves less than one pixel.
    """
    for stage in (ranges.first, ranges.second):
        if stage is not None and resolution < stage.downscale_range[1]:
            raise ValueError(
                f"downscale_range goes up to {stage.downscale_range[1]:g}, which leaves less than one pixel of "
                f"{resolution}; take a smaller factor, for example the preset small"
            )
    random = _generator(seed, "degradation", image_index)
    # Streams of their own: what presets could not say at first must not move the draws of those that do not say it.
    more, left_out = (_generator(seed, f"degradation-{name}", image_index) for name in ("more", "left-out"))
    streams = random, more, left_out
    noise_seed = derive_seed(seed, "degradation-noise", image_index)
    rounds = [_sample_round(ranges.first, streams, resolution, noise_seed)]
    grey, jitter, second = random.random(3)
    color = ranges.color
    factors = [random.uniform(*r) for r in (color.brightness_range, color.contrast_range, color.saturation_range)]
    if jitter >= color.jitter_probability:
        factors = [1.0, 1.0, 1.0]
    if ranges.second is not None and second < ranges.second_probability:
        noise_seed = derive_seed(seed, "degradation-noise-second", image_index)
        rounds.append(_sample_round(ranges.second, streams, resolution, noise_seed))
    is_grey = bool(grey < color.grey_probability)
    mask = sample_mask(ranges.mask, _generator(seed, "degradation-mask", image_index), resolution)
    brightness, contrast, saturation = factors
    return DegradationParameters(
        resolution, tuple(rounds), is_grey, color.grey_target, brightness, contrast, saturation, mask
    )


def _generator(seed: int, purpose: str, image_index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, purpose, image_index)))


def scale_kernel_size(kernel_size_pixels: int, resolution: int) -> int:
    """Scales a kernel size given at 512 to the nearest odd number, at least 3 (41 at 512 is 21 at 256 and 5 at 64)."""
    scaled = kernel_size_pixels * resolution / REFERENCE_RESOLUTION
    return max(3, 2 * round((scaled - 1) / 2) + 1)


def _sample_round(
    ranges: RoundRanges, streams: Sequence[np.random.Generator], resolution: int, noise_seed: int
) -> RoundParameters:
    """Draws one round from the streams of the usual, of what takes its place, and of what is left out."""
    random, more, left_out = streams
    drawn = _sample_more(ranges, more, _sample_usual(ranges, random, resolution, noise_seed))
    small, noisy = left_out.random(2)
    if small >= ranges.downscale_probability:
        drawn = replace(drawn, downscale=1.0)
    if noisy >= ranges.noise_probability:
        drawn = replace(drawn, noise_sigma=0.0, poisson_scale=0.0)
    return drawn


def _sample_usual(
    ranges: RoundRanges, random: np.random.Generator, resolution: int, noise_seed: int
) -> RoundParameters:
    """Draws what every round has; the number of draws never depends on what was drawn."""
    blur = _sample_blur(ranges.blur, random, resolution)
    downscale, noise_sigma = random.uniform(*ranges.downscale_range), random.uniform(*ranges.noise_sigma_range)
    low, high = ranges.jpeg_quality_range
    compressed, quality = random.random() < ranges.jpeg_probability, int(random.integers(low, high, endpoint=True))
    return RoundParameters(blur, downscale, noise_sigma, noise_seed, quality if compressed else None)


def _sample_blur(ranges: BlurRanges, random: np.random.Generator, resolution: int) -> BlurKernel | None:
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


def _sample_more(ranges: RoundRanges, random: np.random.Generator, drawn: RoundParameters) -> RoundParameters:
    """Draws what a round may have in the place of the usual; the number of draws never depends on what was drawn."""
    blur = _sample_shape(ranges.blur, random, drawn.blur)
    poisson, grey_noise, webp = random.random(3)
    poisson_scale = random.uniform(*ranges.poisson_scale_range)
    down, up = (
        modes[int(place * len(modes))]
        for modes, place in zip((ranges.downscale_modes, ranges.upscale_modes), random.random(2), strict=True)
    )
    webp_quality = int(random.integers(*ranges.webp_quality_range, endpoint=True))
    drawn = replace(drawn, blur=blur, grey_noise=bool(grey_noise < ranges.grey_noise_probability))
    drawn = replace(drawn, downscale_mode=down, upscale_mode=up)
    if poisson < ranges.poisson_probability:
        drawn = replace(drawn, poisson_scale=poisson_scale, noise_sigma=0.0)
    if drawn.jpeg_quality is not None and webp < ranges.webp_probability:
        drawn = replace(drawn, jpeg_quality=None, webp_quality=webp_quality)
    return drawn


def _sample_shape(ranges: BlurRanges, random: np.random.Generator, blur: BlurKernel | None) -> BlurKernel | None:
    """Draws whether a Gaussian kernel falls off otherwise, and whether a sinc takes the place of any kernel."""
    shape, sinc = random.random(2)
    generalised, plateau = random.uniform(*ranges.generalised_power_range), random.uniform(*ranges.plateau_power_range)
    cutoff = random.uniform(*ranges.sinc_cutoff_range)
    if blur is None:
        return None
    if sinc < ranges.sinc_probability:
        return BlurKernel("sinc", blur.kernel_size_pixels, cutoff_radians=cutoff)
    if blur.kind == "gaussian" and shape < ranges.generalised_probability:
        return replace(blur, kind="generalised", power=generalised)
    if blur.kind == "gaussian" and shape < ranges.generalised_probability + ranges.plateau_probability:
        return replace(blur, kind="plateau", power=plateau)
    return blur


def sample_mask(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> MaskShapes | None:
    """Draws what is painted over in one image, with lengths scaled to R pixels; None for an image that is left
    whole."""
    if random.random() >= ranges.probability:
        return None
    num_strokes = int(random.integers(*ranges.num_strokes_range, endpoint=True))
    num_boxes = int(random.integers(*ranges.num_boxes_range, endpoint=True))
    strokes = tuple(_sample_stroke(ranges, random, resolution) for _ in range(num_strokes))
    boxes = tuple(_sample_box(ranges, random, resolution) for _ in range(num_boxes))
    return MaskShapes(strokes, boxes, ranges.fill)


def _sample_stroke(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> Stroke:
    """A walk from a point anywhere; points that would leave the image stay at its border."""
    scale = resolution / REFERENCE_RESOLUTION
    num_segments = int(random.integers(*ranges.num_segments_range, endpoint=True))
    width = scale * random.uniform(*ranges.stroke_width_range)
    x, y = random.uniform(0, resolution - 1, 2).tolist()
    direction, side = random.uniform(-math.pi, math.pi), 1.0
    points = [(x, y)]
    for _ in range(num_segments):
        direction += side * random.uniform(0, LARGEST_TURN)
        side = -side
        length = scale * random.uniform(*ranges.segment_length_range)
        x = min(max(x + length * math.cos(direction), 0.0), resolution - 1.0)
        y = min(max(y + length * math.sin(direction), 0.0), resolution - 1.0)
        points.append((x, y))
    return Stroke(width, tuple(points))


def _sample_box(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> tuple[int, int, int, int]:
    scale = resolution / REFERENCE_RESOLUTION
    width, height = (min(max(1, round(scale * random.uniform(*ranges.box_side_range))), resolution) for _ in range(2))
    left, top = (int(random.integers(0, resolution - side, endpoint=True)) for side in (width, height))
    return left, top, left + width, top + height
