"""What one image gets: plain numbers, drawn by sampling.py from a preset and applied by synthesis.py."""

from dataclasses import dataclass
from typing import Literal

from data.degradation.presets import ResizeMode

BlurKind = Literal["gaussian", "motion", "generalised", "plateau", "sinc"]


@dataclass(frozen=True)
class BlurKernel:
    """The blur of one image, in its own pixels."""

    kind: BlurKind
    """Motion reads the length, sinc the cutoff, the others the sigmas."""
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
    power: float = 1.0
    """β of generalised and plateau kernels."""
    cutoff_radians: float = 0.0
    """Of sinc kernels, per pixel."""


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
    """From 1 to 100; None: no JPEG."""
    webp_quality: int | None = None
    """From 0 to 100; None: no WebP."""
    poisson_scale: float = 0.0
    """Factor on the noise of 256 photons at white; 0: no Poisson noise."""
    grey_noise: bool = False
    """Whether the noise is the same in all channels."""
    downscale_mode: ResizeMode = "bilinear"
    """How the image gets small."""
    upscale_mode: ResizeMode = "bilinear"
    """How it is resized back."""


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
    mask: MaskShapes | None = None
    """What is painted over; None: nothing."""
