"""Restored faces put back into their photograph, or into an enlarged one of another program: no rectangle, no frame."""

import unicodedata
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from data.faces.files import Pictures
from photographs.faces.alignment import FaceSquare, Pixels, align, warp
from photographs.restoration.stored import StoredPhoto, read_stored

Light = npt.NDArray[np.float32]
"""[H, W, 3], RGB, proportional to light, [0, 1]."""

SEAM_SHARE = 0.15
"""Of a face's side: how wide the mask's seam is."""
_CORNER_POWER = 4
"""The mask is a square with round corners, |x|⁴ + |y|⁴ ≤ 1."""
_STRIP_PIXELS = 2**20
"""Of a photograph that are changed at once."""


def mask(resolution: int) -> npt.NDArray[np.float32]:
    """How much of the restored face is shown, [R, R]: 1 within, falling smoothly to 0 before the square's edge; value
    and slope are 0 at the edge and at the inner end of the seam, so that neither is seen."""
    place = np.abs((np.arange(resolution) + 0.5) / resolution * 2 - 1)
    radius = np.add.outer(place**_CORNER_POWER, place**_CORNER_POWER) ** (1 / _CORNER_POWER)
    depth = ((0.98 - radius) / (2 * SEAM_SHARE)).clip(0, 1)  # 0.98: interpolation reaches a little further
    return np.asarray(depth**2 * (3 - 2 * depth), dtype=np.float32)


def paste(photo: Pixels, restored: Pixels, square: FaceSquare, strength: float = 1.0) -> None:
    """Puts a restored face into a photograph, in place.

    Not the face is pasted but what restoration changed of it: the photograph plus mask times (restored minus aligned),
    in linear light. A network that changes nothing leaves the photograph as it is to the bit, grain finer than the
    network's pixels stays, and where the photograph has fewer pixels than the face this is ordinary blending.

    Args:
        photo: uint8 [H, W, 3], RGB; an enlarged one where `square` is enlarged alike.
        restored: uint8 [R, R, 3].
        square: Where the face is in the photograph.
        strength: Of the change, [0, 1].
    """
    resolution = restored.shape[0]
    change = (to_light(restored) - to_light(align(photo, square, resolution))) * np.float32(strength)
    corners = square.corners()
    left, top = np.floor(corners.min(axis=0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int), photo.shape[1::-1])
    if left >= right or top >= bottom:
        return
    matrix = square.from_photo(resolution)
    shrink = resolution / square.side_pixels
    if shrink > 1:  # fewer pixels than the face has: each is a mean
        small = max(1, round(resolution / shrink))
        change = np.asarray(cv2.resize(change, (small, small), interpolation=cv2.INTER_AREA), dtype=np.float32)
        matrix *= small / resolution
    rows = max(1, _STRIP_PIXELS // int(right - left))
    for first in range(top, bottom, rows):  # light takes twenty times the memory of levels
        size = int(right - left), int(min(rows, bottom - first))
        here = matrix.copy()
        here[:, 2] += here[:, :2] @ (left, first)
        shown = _mask_in_photo(square, size, (int(left), int(first)))
        part = photo[first : first + size[1], left:right]
        changed = to_light(part) + shown[..., None] * warp(change, here, size)
        part[shown > 0] = from_light(changed)[shown > 0]


def to_light(levels: Pixels) -> Light:
    """8-bit sRGB to linear light (IEC 61966-2-1)."""
    return _LIGHT_OF_LEVEL[levels]


def from_light(light: Light) -> Pixels:
    """Linear light to 8-bit sRGB, rounded; the inverse of `to_light`."""
    return np.searchsorted(_BETWEEN_LEVELS, light).astype(np.uint8)


def _mask_in_photo(square: FaceSquare, size: tuple[int, int], origin: tuple[int, int]) -> npt.NDArray[np.float32]:
    """`mask` at the pixels of a part of a photograph."""
    resolution = 256
    matrix = square.from_photo(resolution)
    matrix[:, 2] += matrix[:, :2] @ np.asarray(origin) - 0.5 + matrix[:, :2] @ (0.5, 0.5)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(mask(resolution), matrix, size, flags=flags, borderValue=0), dtype=np.float32)


def _light(level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light of sRGB values [0, 1]."""
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


_LIGHT_OF_LEVEL = _light(np.arange(256) / 255).astype(np.float32)
_BETWEEN_LEVELS = _light((np.arange(255) + 0.5) / 255).astype(np.float32)


_SAME_SHAPE = 0.01
"""By how much the proportions of a photograph and of its enlargement may differ."""


class Backgrounds:
    """Enlarged photographs, in a folder or one file, by the names of the originals; FileNotFoundError or ValueError
    where there is none or it holds no picture."""

    def __init__(self, path: Path) -> None:
        self._files = Pictures().open(path)
        self._by_name = {_stem(name): index for index, name in enumerate(self._files.names)}
        self._is_one_picture = self._files.path.is_file() and self._files.names == [path.name]

    def check(self, num_photos: int) -> None:
        """Raises ValueError where one picture is given for several photographs."""
        if self._is_one_picture and num_photos > 1:
            raise ValueError(
                f"--background {self._files.path} is one picture for {num_photos} photographs; name the folder of "
                "their enlargements"
            )

    def find(self, name: str, photo: StoredPhoto) -> tuple[StoredPhoto, float]:
        """Gives the enlargement of a photograph, whose suffix may differ, and how much larger it is; ValueError where
        there is none, it cannot be read, or shows something of another shape."""
        index = 0 if self._is_one_picture else self._by_name.get(_stem(name))
        if index is None:
            raise ValueError(f"there is no background for {name} in {self._files.path}; enlarge it too")
        enlarged = read_stored(self._files.content(index), photo.background)
        height, width = photo.pixels.shape[:2]
        vertical, horizontal = enlarged.pixels.shape[0] / height, enlarged.pixels.shape[1] / width
        if abs(vertical / horizontal - 1) > _SAME_SHAPE + 1 / min(height, width):
            raise ValueError(
                f"the background of {name} must have its proportions, {width} x {height}, got "
                f"{enlarged.pixels.shape[1]} x {enlarged.pixels.shape[0]}; enlarge the whole photograph"
            )
        enlarged.format, enlarged.is_lossless = photo.format, photo.is_lossless  # it is written in its place
        return enlarged, (vertical + horizontal) / 2


def _stem(name: str) -> str:
    """A name without its suffix, however the system that stored it writes é."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))
