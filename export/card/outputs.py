"""What came back from a card, matched with the golden faces by name."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.faces.files import open_faces
from data.ranges import uint8_to_model
from export.bundle.faces import OUTPUT_KEY, read_array


def read_outputs(folder: Path, stems: Sequence[str], resolution: int) -> Tensor:
    """Reads one output for every golden face.

    A file belongs to the face whose name it bears. If no file bears the name of a face, the number at the end of each
    file's name is the place in the list that was given to vamp, from 0; the order in which names sort means nothing.

    Args:
        folder: npz files with the array `output_0` ([1, 3, R, R] or [3, R, R], any float type), or images.
        stems: Names of the golden faces without suffix, in the order of the list.
        resolution: R in pixels.

    Returns:
        [N, 3, R, R] in the order of `stems`, float32, about [-1, 1].

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds neither kind of file or both, an output is missing, ambiguous, or has another shape.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"outputs must be a folder with npz files or images, there is none at {folder}")
    arrays = sorted(path for path in folder.rglob("*.npz") if path.is_file())
    if not arrays:
        return _read_images(folder, stems, resolution)
    names = _match([path.stem for path in arrays], stems, folder)
    return torch.stack([_array(arrays[index], resolution) for index in names])


def _read_images(folder: Path, stems: Sequence[str], resolution: int) -> Tensor:
    """Outputs that were stored as pictures."""
    faces = open_faces(folder)
    positions = _match([Path(name).stem for name in faces.names], stems, folder)
    images = []
    for index in positions:
        picture = faces.read(index)
        _check_shape(folder / faces.names[index], (3, *picture.size[::-1]), resolution)
        images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return uint8_to_model(torch.stack(images))


def _match(found: Sequence[str], stems: Sequence[str], folder: Path) -> list[int]:
    """Position in `found` of every golden face's output."""
    places: dict[str, list[int]] = {stem: [] for stem in stems}
    named = [index for index, name in enumerate(found) if name in places]
    for index in named:
        places[found[index]].append(index)
    if not named:  # vamp's own names
        for index, name in enumerate(found):
            number = re.search(r"(\d+)$", name)
            if number is None or int(number[1]) >= len(stems):
                raise ValueError(
                    "outputs must have the names of the inputs or end in their number in the list, "
                    f"0 to {len(stems) - 1}; {folder} holds {name}"
                )
            places[stems[int(number[1])]].append(index)
    wrong = [stem for stem in stems if len(places[stem]) != 1]
    if wrong:
        raise ValueError(
            f"{folder} must hold exactly one output for each of {len(stems)} golden faces; it holds "
            f"{len(places[wrong[0]])} for {wrong[0]} and is wrong for {len(wrong) - 1} more"
        )
    return [places[stem][0] for stem in stems]


def _array(path: Path, resolution: int) -> Tensor:
    """An output of vamp."""
    array = read_array(path, OUTPUT_KEY)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    _check_shape(path, array.shape, resolution)
    if array.dtype.kind != "f":
        raise ValueError(f"{path} must hold floating-point values, about [-1, 1], got {array.dtype}")
    return torch.from_numpy(array.astype(np.float32))


def _check_shape(path: Path, shape: tuple[int, ...], resolution: int) -> None:
    wanted = (3, resolution, resolution)
    if tuple(shape) != wanted:
        raise ValueError(f"{path} must have the shape {list(wanted)}, got {list(shape)}; was it made with this bundle?")
