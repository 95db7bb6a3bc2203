"""Degradation presets: YAML files of ranges and probabilities from which the numbers of each image are drawn."""

import math
from argparse import ArgumentError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from jsonargparse import ArgumentParser

from system.machine import ROOT
from system.plain_yaml import read_yaml, value_problems
from system.wording import unwrapped

REFERENCE_RESOLUTION = 512
"""Kernel sizes, sigmas, lengths, strokes and boxes of a preset are pixels of an image of this resolution."""

MOST_SHAPES = 64
"""Strokes, segments of a stroke, boxes."""

Range = tuple[float, float]
ResizeMode = Literal["bilinear", "bicubic", "area", "nearest", "antialiased_bicubic"]
"""The first four as OpenCV's INTER_LINEAR, INTER_CUBIC, INTER_AREA (exact areas also where it enlarges) and
INTER_NEAREST; antialiased_bicubic is Pillow's BICUBIC, the kernel of MATLAB's imresize by which super-resolution is
measured."""


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
    generalised_probability: float = 0.0
    """Share of the Gaussian kernels that fall off with another power than the square: exp(-(d²)^β / 2)."""
    generalised_power_range: Range = (0.5, 4.0)
    """β of these, uniform; 1 is a Gaussian, larger ones are flatter in the middle."""
    plateau_probability: float = 0.0
    """Share of the Gaussian kernels that get a plateau with long tails: 1 / (1 + (d²)^β)."""
    plateau_power_range: Range = (1.0, 2.0)
    """β of these, uniform."""
    sinc_probability: float = 0.0
    """Share of the blurred images whose frequencies are cut off sharply, which rings, in place of any other blur."""
    sinc_cutoff_range: Range = (math.pi / 3, math.pi)
    """Frequency above which nothing stays, radians per pixel, uniform. Does not scale with the resolution."""


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
    poisson_probability: float = 0.0
    """Share of images that get Poisson noise, as of counted photons, in place of Gaussian noise."""
    poisson_scale_range: Range = (0.05, 3.0)
    """Factor on the noise of 256 photons at white, uniform."""
    grey_noise_probability: float = 0.0
    """Share of images whose noise, of either kind, is the same in all channels."""
    downscale_modes: tuple[ResizeMode, ...] = ("bilinear",)
    """How images are resized to the small one; each is as probable as the others."""
    upscale_modes: tuple[ResizeMode, ...] = ("bilinear",)
    """How they are resized back."""
    webp_probability: float = 0.0
    """Share of the compressed images that are WebP and not JPEG (encoded by libwebp on the host)."""
    webp_quality_range: tuple[int, int] = (60, 100)
    """WebP quality, as for JPEG."""
    downscale_probability: float = 1.0
    """Share of images that lose pixels at all; the others keep their size."""
    noise_probability: float = 1.0
    """Share of images with noise at all, of either kind."""


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
class MaskRanges:
    """What is painted over, for inpainting: brush strokes and boxes; lengths are pixels at 512 and scale with it."""

    probability: float = 0.0
    """Share of degraded images that lose parts (never the target)."""
    num_strokes_range: tuple[int, int] = (1, 4)
    """Brush strokes, uniform over the integers, both included."""
    num_segments_range: tuple[int, int] = (3, 12)
    """Straight segments of a stroke; each turns by up to 72 degrees to one side, the next to the other."""
    segment_length_range: Range = (20.0, 120.0)
    """Length of a segment, uniform."""
    stroke_width_range: Range = (12.0, 48.0)
    """Diameter of the round brush, uniform."""
    num_boxes_range: tuple[int, int] = (0, 2)
    """Boxes with upright sides."""
    box_side_range: Range = (40.0, 160.0)
    """Width and height of a box, each uniform."""
    fill: float = 1.0
    """What is painted, from 0 (black) to 1 (white)."""


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
    mask: MaskRanges = field(default_factory=MaskRanges)
    """Parts that are painted over, after everything else but the loss of colour."""

    def __post_init__(self) -> None:
        problems = _probability_problems(self, "")
        problems += _round_problems(self.first, "first.")
        problems += _round_problems(self.second, "second.") if self.second is not None else []
        problems += _probability_problems(self.color, "color.")
        for name in ("brightness_range", "contrast_range", "saturation_range"):
            problems += _range_problems(f"color.{name}", getattr(self.color, name), 0.0, math.inf)
        problems += _mask_problems(self.mask)
        if problems:
            raise ValueError(f"degradation ranges: {'; '.join(problems)}")


def _round_problems(ranges: RoundRanges, prefix: str) -> list[str]:
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
    problems += _range_problems(f"{prefix}webp_quality_range", ranges.webp_quality_range, 0, 100)
    problems += _range_problems(f"{prefix}poisson_scale_range", ranges.poisson_scale_range, 0.0, math.inf)
    problems += _range_problems(f"{prefix}blur.generalised_power_range", blur.generalised_power_range, 0.1, 100.0)
    problems += _range_problems(f"{prefix}blur.plateau_power_range", blur.plateau_power_range, 0.1, 100.0)
    problems += _range_problems(f"{prefix}blur.sinc_cutoff_range", blur.sinc_cutoff_range, 0.1, math.pi)
    if blur.generalised_probability + blur.plateau_probability > 1:
        problems.append(f"{prefix}blur: shares of generalised and plateau kernels must be at most 1 together")
    for name in ("downscale_modes", "upscale_modes"):
        modes = getattr(ranges, name)
        if not modes or set(modes) - set(get_args(ResizeMode)):
            problems.append(f"{prefix}{name} must be some of {', '.join(get_args(ResizeMode))}, got {list(modes)}")
    return problems


def _mask_problems(mask: MaskRanges) -> list[str]:
    problems = _probability_problems(mask, "mask.")
    problems += _range_problems("mask.num_strokes_range", mask.num_strokes_range, 0, MOST_SHAPES)
    problems += _range_problems("mask.num_segments_range", mask.num_segments_range, 1, MOST_SHAPES)
    problems += _range_problems("mask.num_boxes_range", mask.num_boxes_range, 0, MOST_SHAPES)
    for name in ("segment_length_range", "stroke_width_range", "box_side_range"):
        problems += _range_problems(f"mask.{name}", getattr(mask, name), 0.0, REFERENCE_RESOLUTION)
    if not 0 <= mask.fill <= 1:
        problems.append(f"mask.fill must be from 0 to 1, got {mask.fill:g}")
    return problems


def _range_problems(name: str, pair: tuple[float, float], lowest: float, highest: float) -> list[str]:
    """Checks lowest <= low <= high <= highest."""
    low, high = pair
    if lowest <= low <= high <= highest and math.isfinite(high):
        return []
    bounds = f"{lowest:g} <= low <= high" + (f" <= {highest:g}" if math.isfinite(highest) else "")
    return [f"{name} must be (low, high) with {bounds}, got ({low:g}, {high:g})"]


def _probability_problems(ranges: object, prefix: str) -> list[str]:
    named = {name: value for name, value in vars(ranges).items() if name.endswith("probability")}
    return [
        f"{prefix}{name} must be from 0 to 1, got {value:g}" for name, value in named.items() if not 0 <= value <= 1
    ]


PRESETS_FOLDER = ROOT / "configs" / "degradations"


def preset_names() -> list[str]:
    """Returns the names that `load_preset` knows, sorted."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml"))


def load_preset(name_or_path: str) -> DegradationRanges:
    """Reads a degradation preset: a name such as "released" (a file of configs/degradations), or the path of a YAML
    file with the same keys; keys that are left out keep the defaults of `DegradationRanges`. FileNotFoundError where
    there is neither, ValueError where the file is not YAML, has unknown keys, wrong types or ranges that contradict
    each other."""
    path = PRESETS_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        known = ", ".join(preset_names())
        raise FileNotFoundError(f"no degradation preset or YAML file named {name_or_path}; the presets are {known}")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: preset must hold keys and values, got {str(values)[:40]!r}")
    if problems := value_problems(DegradationRanges, values, "preset"):
        raise ValueError(f"{path}: {'; '.join(problems)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("degradation", type=DegradationRanges)
    try:
        parsed = parser.instantiate(parser.parse_object({"degradation": values}))
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{path}: {unwrapped(error)}") from error
    return parsed.degradation
