"""Whether a face is good enough to train on, the reason why not, and whether it is trained on or held out."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import cv2
import imagehash
import numpy as np
from PIL import Image

from photographs.faces.alignment import Pixels, inner, outside_share, turn
from photographs.faces.detection import DetectedFace
from photographs.options import Selection

OPTIONS = {
    "too small": "smallest_share",
    "turned too far": "most_turn",
    "mostly padding": "most_padding",
    "blurred": "least_sharpness",
    "grey": "reject_grey",
    "near-duplicate": "least_difference",
}
"""The option that decides, by how a reason begins, in the order in which faces are judged."""
_GREY_LEVELS = 8
"""A face is grey where no channel differs from another by more, but for a hundredth of its pixels: JPEG's noise."""


def reject_by_place(face: DetectedFace, width: int, height: int, resolution: int, selection: Selection) -> str:
    """Judges a face, to be aligned at R pixels, by where it is in its photograph; gives the reason why it is rejected,
    a colon and what was measured, empty where it is good."""
    side, least = face.square.side_pixels, selection.smallest_share * resolution
    if side < least:
        return f"too small: {side:.0f} pixels, at least {least:.0f} are needed"
    turned = turn(face.points)
    if turned > selection.most_turn:
        return f"turned too far: {turned:.2f}, at most {selection.most_turn:g} is allowed"
    padding = outside_share(face.square, width, height)
    if padding > selection.most_padding:
        return f"mostly padding: {padding:.0%} outside of the photograph, at most {selection.most_padding:.0%} may be"
    return ""


def reject_by_pixels(aligned: Pixels, selection: Selection) -> str:
    """Judges an aligned face, uint8 [R, R, 3], by itself; gives what `reject_by_place` gives."""
    sharp = sharpness(aligned)
    if sharp < selection.least_sharpness:
        return f"blurred: sharpness {sharp:.1f}, at least {selection.least_sharpness:g} is needed"
    if selection.reject_grey and is_grey(aligned):
        return "grey: it has no colour"
    return ""


def sharpness(aligned: Pixels) -> float:
    """Variance of the Laplacian of the grey picture in the middle of a face, uint8 [R, R, 3], in squared levels of 255.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    grey = cv2.cvtColor(inner(aligned), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def is_grey(aligned: Pixels) -> bool:
    """Whether a face, uint8 [R, R, 3], has no colour: its channels are the same."""
    middle = inner(aligned)
    spread = middle.max(axis=2).astype(int) - middle.min(axis=2)
    return bool(np.percentile(spread, 99) <= _GREY_LEVELS)


def perceptual_hash(aligned: Pixels) -> str:
    """64 bits of a picture, uint8 [R, R, 3], that hardly change when it is stored anew, in 16 hexadecimal digits."""
    return str(imagehash.phash(Image.fromarray(aligned)))


class PerceptualHashes:
    """Remembers the hashes of the faces kept so far, of which the most similar one is looked for."""

    def __init__(self) -> None:
        self._numbers = np.zeros(1024, dtype=np.uint64)
        self._names: list[str] = []

    def add(self, digits: str, name: str) -> None:
        """Adds the hash of a face by its 16 hexadecimal digits."""
        if len(self._names) == len(self._numbers):
            self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
        self._numbers[len(self._names)] = int(digits, 16)
        self._names.append(name)

    def nearest(self, digits: str) -> tuple[str, int]:
        """The name of the face most similar by its hash, the first of several, and in how many of 64 bits it differs;
        an empty name and 65 where there is none."""
        if not self._names:
            return "", 65
        differences = np.bitwise_count(self._numbers[: len(self._names)] ^ np.uint64(int(digits, 16)))
        position = int(np.argmin(differences))
        return self._names[position], int(differences[position])


TRAIN, VAL = "train", "val"


def people_of(names: Sequence[str]) -> list[str]:
    """Who is on each photograph, as far as names with `/` between their parts tell: the folder in which it lies; the
    names themselves where all lie in one folder."""
    folders = [str(PurePosixPath(name).parent) for name in names]
    return folders if len(set(folders)) > 1 else list(names)


def parts_of(people: Sequence[str], val_share: float, known: Mapping[str, str]) -> dict[str, str]:
    """Divides people, who may repeat, by the hashes of their names: `train` or `val` for each.

    The share that is held out, [0, 1), is rounded, at least one of two or more; people keep the part that is known.
    """
    ranked = sorted(set(people), key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    number = round(val_share * len(ranked))
    if val_share > 0 and len(ranked) > 1:
        number = max(1, number)
    return {name: known.get(name, VAL if index < number else TRAIN) for index, name in enumerate(ranked)}
