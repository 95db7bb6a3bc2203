"""Target over degraded with the sampled parameters written below: what a degradation preset does to faces."""

import io
import math
from collections.abc import Sequence

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from data.dataset import FaceImages
from data.degradation.presets import load_preset
from data.degradation.sampling import BlurKernel, DegradationParameters, RoundParameters, sample_parameters
from data.degradation.synthesis import degrade
from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from system.wording import counted

_CELL_INCHES = 2.0
_LINE_INCHES = 0.17
_TITLE_INCHES = 0.4
_MOST_COLUMNS = 4


def preview_degradation(faces: FaceFiles, degradation: str, resolution: int, seed: int) -> bytes:
    """Degrades a few faces at R pixels, face k as image k of a run, and draws them with `draw_preview`. Raises
    ValueError where the degradation or a face cannot be used."""
    ranges, images = load_preset(degradation), FaceImages(faces, resolution)
    target = torch.stack([uint8_to_model(images[index]) for index in range(len(faces))])  # [N, 3, R, R]
    parameters = [sample_parameters(ranges, seed, index, resolution) for index in range(len(faces))]
    degraded, target = degrade(target, parameters)
    return draw_preview(target, degraded, parameters, f"{degradation} at {resolution} pixels, seed {seed}")


def describe_parameters(parameters: DegradationParameters) -> list[str]:
    """Writes the parameters of one image as short lines, the rounds below each other and numbered if they are two."""
    lines = []
    for number, drawn in enumerate(parameters.rounds, 1):
        lines.append(f"{number}. " * (len(parameters.rounds) > 1) + _describe_blur(drawn.blur))
        small = int(parameters.resolution / drawn.downscale)
        lines.append(f"s {drawn.downscale:.1f} ({small} px){_describe_modes(drawn)}")
        lines.append(f"{_describe_noise(drawn)}, {_describe_compression(drawn)}")
    if (parameters.brightness, parameters.contrast, parameters.saturation) != (1.0, 1.0, 1.0):
        factors = f"{parameters.brightness:.2f} {parameters.contrast:.2f} {parameters.saturation:.2f}"
        lines.append(f"light, contrast, colour {factors}")
    if parameters.mask is not None:
        lines.append(f"{counted(len(parameters.mask.strokes), 'stroke')}, {counted(len(parameters.mask.boxes), 'box')}")
    if parameters.grey:
        lines.append("grey" if parameters.grey_target else "grey, target not")
    return lines


def draw_preview(target: Tensor, degraded: Tensor, parameters: Sequence[DegradationParameters], title: str) -> bytes:
    """Draws pairs of targets and degraded faces, [N, 3, R, R], [-1, 1], with their parameters below, as a PNG file
    without interpolation."""
    captions = [describe_parameters(drawn) for drawn in parameters]
    num_columns = min(_MOST_COLUMNS, len(captions))
    num_rows = -(-len(captions) // num_columns)
    text_inches = _LINE_INCHES * (max(len(lines) for lines in captions) + 1)
    row_inches = 2 * _CELL_INCHES + text_inches
    width, height = num_columns * (_CELL_INCHES + 0.1) + 0.1, num_rows * row_inches + _TITLE_INCHES
    figure = Figure(figsize=(width, height), dpi=max(100, math.ceil(target.shape[-1] / _CELL_INCHES)))
    figure.text(0.5, 1 - 0.5 * _TITLE_INCHES / height, title, ha="center", va="center", fontsize=10)
    for index, (clean, bad) in enumerate(zip(model_to_uint8(target), model_to_uint8(degraded), strict=True)):
        left = 0.1 + index % num_columns * (_CELL_INCHES + 0.1)
        top = height - _TITLE_INCHES - index // num_columns * row_inches
        for image, bottom in ((clean, top - _CELL_INCHES), (bad, top - 2 * _CELL_INCHES)):
            axes = figure.add_axes((left / width, bottom / height, _CELL_INCHES / width, _CELL_INCHES / height))
            axes.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
            axes.set_axis_off()
        middle = (left + _CELL_INCHES / 2) / width
        text_top = (top - 2 * _CELL_INCHES - 0.04) / height
        figure.text(middle, text_top, "\n".join(captions[index]), ha="center", va="top", fontsize=8)
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _describe_blur(kernel: BlurKernel | None) -> str:
    """One line such as "blur 1.2 x 0.4 px at 30°"."""
    if kernel is None:
        return "no blur"
    if kernel.kind == "sinc":
        return f"sinc to {kernel.cutoff_radians:.2f} rad/px"
    degrees = math.degrees(kernel.angle_radians)
    if kernel.kind == "motion":
        return f"motion {kernel.length_pixels:.1f} px at {degrees:.0f}°"
    name = "blur" if kernel.kind == "gaussian" else f"{kernel.kind} β {kernel.power:.1f}"
    if kernel.sigma_x_pixels == kernel.sigma_y_pixels:
        return f"{name} σ {kernel.sigma_x_pixels:.2f} px"
    return f"{name} σ {kernel.sigma_x_pixels:.2f}, {kernel.sigma_y_pixels:.2f} px at {degrees:.0f}°"


def _describe_modes(drawn: RoundParameters) -> str:
    """How an image was resized where that is not bilinear both ways."""
    modes = drawn.downscale_mode, drawn.upscale_mode
    return "" if modes == ("bilinear", "bilinear") else f" {', '.join(mode.replace('_', ' ') for mode in modes)}"


def _describe_noise(drawn: RoundParameters) -> str:
    """Such as "grey noise 3.0" or "Poisson noise x 1.20"."""
    grey = "grey " if drawn.grey_noise and (drawn.noise_sigma or drawn.poisson_scale) else ""
    if drawn.poisson_scale:
        return f"{grey}Poisson noise x {drawn.poisson_scale:.2f}"
    return f"{grey}noise {drawn.noise_sigma:.1f}"


def _describe_compression(drawn: RoundParameters) -> str:
    if drawn.webp_quality is not None:
        return f"WebP {drawn.webp_quality}"
    return "no JPEG" if drawn.jpeg_quality is None else f"JPEG {drawn.jpeg_quality}"
