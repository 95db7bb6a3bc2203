"""Where degraded and target faces come from: faces degraded by a preset, or two folders of stored images."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from data.dataset import FaceImages
from data.degradation.parameters import DegradationRanges, sample_parameters
from data.degradation.synthesis import degrade
from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model


class PairBatch(NamedTuple):
    """Faces to restore and what they should become."""

    names: list[str]
    """Name of each of the N faces."""
    degraded: Tensor
    """uint8 [N, 3, R, R]."""
    target: Tensor
    """uint8 [N, 3, R, R]."""


def degraded_pairs(
    faces: FaceFiles,
    resolution: int,
    ranges: DegradationRanges,
    seed: int,
    batch_size: int = 16,
    max_faces: int | None = None,
) -> Iterator[PairBatch]:
    """Degrades faces: the i-th face, in the order of names, gets the parameters of image index i.

    The degraded face is rounded to 8 bits after it was resized back, as a user would have stored it; the target is
    rounded as well, since a preset may turn both grey. Degradation runs on the CPU whatever the restorer's device, so
    that the pairs do not depend on it.

    Args:
        faces: Clean aligned faces.
        resolution: R in pixels.
        ranges: What the degradation is drawn from.
        seed: Of the drawing.
        batch_size: Faces per batch; does not change any pair.
        max_faces: Only the first faces by name; None takes all.

    Yields:
        The pairs in the order of names.

    Raises:
        ValueError: If a face cannot be read.
    """
    images = FaceImages(faces, resolution)
    for indices in _batches(len(faces), batch_size, max_faces):
        clean = uint8_to_model(torch.stack([images[index] for index in indices]))  # [N, 3, R, R]
        degraded, target = degrade(clean, [sample_parameters(ranges, seed, index, resolution) for index in indices])
        # One layout, as the last bits of a metric depend on it: stored pairs give the same numbers.
        stored = model_to_uint8(degraded).contiguous(), model_to_uint8(target).contiguous()
        yield PairBatch([faces.names[index] for index in indices], *stored)


def stored_pairs(
    degraded: FaceFiles, target: FaceFiles, resolution: int, batch_size: int = 16, max_faces: int | None = None
) -> Iterator[PairBatch]:
    """Reads pairs of stored images whose names are equal but for their suffix.

    Args:
        degraded: Degraded faces of any size.
        target: Clean faces of any size.
        resolution: R in pixels, to which both are resized.
        batch_size: Faces per batch.
        max_faces: Only the first faces by name; None takes all.

    Returns:
        Iterator over the pairs in the order of the targets' names.

    Raises:
        ValueError: If the two do not hold the same names, or a file cannot be read.
    """
    order = _matching(degraded, target)
    images = FaceImages(degraded, resolution), FaceImages(target, resolution)

    def batches() -> Iterator[PairBatch]:
        for indices in _batches(len(target), batch_size, max_faces):
            pair = (torch.stack([images[0][order[i]] for i in indices]), torch.stack([images[1][i] for i in indices]))
            yield PairBatch([target.names[index] for index in indices], *pair)

    return batches()


def _matching(degraded: FaceFiles, target: FaceFiles) -> list[int]:
    """Position of each target's degraded image."""
    places: list[dict[str, int]] = []
    for faces in (degraded, target):
        stems = [str(PurePosixPath(name).with_suffix("")) for name in faces.names]
        repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
        if repeated:
            raise ValueError(
                f"names without suffix must be unique in {faces.path}, {_some(repeated)} repeat; rename them"
            )
        places.append({stem: index for index, stem in enumerate(stems)})
    lonely = [sorted(places[0].keys() - places[1].keys()), sorted(places[1].keys() - places[0].keys())]
    if lonely[0] or lonely[1]:
        raise ValueError(
            f"degraded and target images must have the same names: without target {_some(lonely[0])}; without degraded "
            f"image {_some(lonely[1])}; rename or remove them"
        )
    return [places[0][stem] for stem in places[1]]


def _some(names: list[str], most: int = 3) -> str:
    """A few names and how many there are."""
    if not names:
        return "none"
    return f"{', '.join(names[:most])}{' …' if len(names) > most else ''} ({len(names)})"


def _batches(num_faces: int, batch_size: int, max_faces: int | None) -> Iterator[list[int]]:
    """Positions of the faces, batch by batch."""
    if batch_size < 1 or (max_faces is not None and max_faces < 1):
        raise ValueError(f"batch size and number of faces must be at least 1, got {batch_size} and {max_faces}")
    end = num_faces if max_faces is None else min(num_faces, max_faces)
    for start in range(0, end, batch_size):
        yield list(range(start, min(start + batch_size, end)))
