"""Where degraded and target faces come from: faces degraded by a preset, or two folders of stored images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data.dataset import FaceImages, check_same_crop
from data.degradation.presets import DegradationRanges, load_preset, preset_names
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import degrade
from data.faces.files import FaceFiles, open_faces
from data.faces.pairing import match_degraded
from data.ranges import model_to_uint8, uint8_to_model


class PairBatch(NamedTuple):
    """Faces to restore and what they should become."""

    names: list[str]
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
    that the pairs depend neither on it nor on the batch size. Raises ValueError where a face cannot be read.
    """
    images = FaceImages(faces, resolution)
    for indices in _batches(len(faces), batch_size, max_faces):
        clean = uint8_to_model(torch.stack([images[index] for index in indices]))  # [N, 3, R, R]
        degraded, target = degrade(clean, [sample_parameters(ranges, seed, index, resolution) for index in indices])
        # One layout, as the last bits of a metric depend on it: stored pairs give the same numbers.
        stored = model_to_uint8(degraded).contiguous(), model_to_uint8(target).contiguous()
        yield PairBatch([faces.names[index] for index in indices], *stored)


def stored_pairs(
    degraded: FaceFiles,
    target: FaceFiles,
    resolution: int,
    batch_size: int = 16,
    max_faces: int | None = None,
    names: Sequence[str] = (),
) -> Iterator[PairBatch]:
    """Reads pairs of stored images of any size, resized to R pixels, in the order of the targets' names, whose names
    belong together as `data.faces.pairing.match_degraded` says. Raises ValueError where they do not, show different
    crops, or a file cannot be read."""
    images = FaceImages(match_degraded(degraded, target, names), resolution), FaceImages(target, resolution)

    def batches() -> Iterator[PairBatch]:
        for indices in _batches(len(target), batch_size, max_faces):
            pair = (torch.stack([images[0][i] for i in indices]), torch.stack([images[1][i] for i in indices]))
            for index in indices:
                check_same_crop(*images, index)
            yield PairBatch([target.names[index] for index in indices], *pair)

    return batches()


def open_degradation(given: str) -> str | FaceFiles:
    """Reads what stands for a degradation in options and studies: a preset or YAML file, given back as it is, or a
    folder or archive of stored degraded faces. FileNotFoundError where there is neither, ValueError where it cannot be
    used."""
    path = Path(given).expanduser()
    is_stored = path.is_dir() or (path.is_file() and path.suffix.lower() not in (".yaml", ".yml"))
    if is_stored and given not in preset_names():
        return open_faces(path)
    load_preset(given)
    return given


def reduction_warning(targets: FaceFiles, resolution: int) -> str:
    """Says that targets are made smaller, to R pixels, before they are compared; empty where the first one is not."""
    width, height = targets.read(0).size
    if max(width, height) <= resolution:
        return ""
    return (
        f"warning: targets of {width} x {height} pixels are reduced to {resolution}; figures of papers hold at the "
        "targets' own size"
    )


def _batches(num_faces: int, batch_size: int, max_faces: int | None) -> Iterator[list[int]]:
    """Positions of the faces, batch by batch."""
    if batch_size < 1 or (max_faces is not None and max_faces < 1):
        raise ValueError(f"batch size and number of faces must be at least 1, got {batch_size} and {max_faces}")
    end = num_faces if max_faces is None else min(num_faces, max_faces)
    for start in range(0, end, batch_size):
        yield list(range(start, min(start + batch_size, end)))
