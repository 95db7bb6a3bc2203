"""How far an artefact's images lie from those of the network it was made from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.presets import load_preset
from data.faces.files import open_faces
from data.randomness import derive_seed
from data.ranges import uint8_to_model
from evaluation.pairs import degraded_pairs

LARGEST_DIFFERENCE = 1e-4
"""Limit in units of [-1, 1]; one step of 8-bit pixels is 8e-3, float32 noise of a trained network about 1e-5."""
_SYNTHETIC_CELLS = 8


@dataclass(frozen=True)
class ParityFaces:
    """Which images the artefacts are compared on."""

    faces: Path | None = None
    """Folder or zip of clean faces, which are degraded first; None draws smooth images, which are no faces."""
    degradation: str = "released"
    """Preset or YAML file; without meaning for drawn images."""
    seed: int = 0
    """Of degradation or drawing."""
    num_images: int = 8
    """The first ones by name."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"the number of images to compare on must be at least 1, got {self.num_images}")


@dataclass(frozen=True)
class ImageDifference:
    """Between the images of two networks, in units of [-1, 1]."""

    largest: float
    """Over all pixels and images."""
    mean: float
    """Of the absolute values."""


def parity_images(settings: ParityFaces, resolution: int) -> Tensor:
    """Makes the inputs to compare on.

    Args:
        settings: Which ones.
        resolution: R in pixels.

    Returns:
        [N, 3, R, R] float32 in [-1, 1].

    Raises:
        FileNotFoundError: There is no such folder or preset.
        ValueError: The folder holds no faces, a face cannot be read, or the preset is wrong.
    """
    if settings.faces is None:
        return _smooth_images(settings, resolution)
    faces, ranges = open_faces(settings.faces), load_preset(settings.degradation)
    pairs = degraded_pairs(faces, resolution, ranges, settings.seed, max_faces=settings.num_images)
    return torch.cat([uint8_to_model(pair.degraded) for pair in pairs])


def compare_networks(
    reference: Callable[[Tensor], Tensor], candidate: Callable[[Tensor], Tensor], images: Tensor
) -> ImageDifference:
    """Compares two networks image by image.

    Args:
        reference: What the images should be; [1, 3, R, R] to [1, 3, R, R].
        candidate: What an artefact makes of them.
        images: Inputs [N, 3, R, R] in [-1, 1].

    Returns:
        Largest and mean absolute difference; not a number where one of the two is not.
    """
    largest, total = 0.0, 0.0
    with torch.no_grad():
        for image in images.split(1):
            difference = (reference(image).double() - candidate(image).double()).abs()
            # `max` of Python would drop a NaN that comes second.
            largest = (
                math.nan if math.isnan(largest) or difference.isnan().any() else max(largest, float(difference.max()))
            )
            total += float(difference.mean())
    return ImageDifference(largest, total / len(images))


def check_difference(name: str, difference: ImageDifference) -> None:
    """Raises ValueError if an artefact is not equal to the network it was made from."""
    if not difference.largest <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"{name} differs from the network by up to {difference.largest:.2g}, {LARGEST_DIFFERENCE:g} is allowed, so "
            "nothing was exported; check that the checkpoint restores faces (values far outside [-1, 1] lose precision)"
        )


def _smooth_images(settings: ParityFaces, resolution: int) -> Tensor:
    """Smooth random colours: a few random cells, enlarged."""
    images = []
    for index in range(settings.num_images):
        random = torch.Generator().manual_seed(derive_seed(settings.seed, "parity image", index))
        cells = torch.randn(1, 3, _SYNTHETIC_CELLS, _SYNTHETIC_CELLS, generator=random)
        images.append(F.interpolate(cells, size=(resolution, resolution), mode="bicubic").tanh())
    return torch.cat(images)  # [N, 3, R, R]
