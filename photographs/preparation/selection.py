"""Whether a face is good enough to train on, and the reason why not."""

from collections.abc import Sequence

import cv2
import imagehash
import numpy as np
from PIL import Image

from photographs.faces.alignment import Pixels
from photographs.faces.detection import DetectedFace
from photographs.faces.squares import outside_share, turn
from photographs.preparation.options import Selection

_FACE_PART = 0.2
"""Share of the aligned face cut off at each side before it is measured: background does not count."""
_GREY_LEVELS = 8
"""A face is grey where no channel differs from another by more, but for a hundredth of its pixels: JPEG's noise."""


def reject_by_place(face: DetectedFace, width: int, height: int, resolution: int, selection: Selection) -> str:
    """Judges a face by where it is in its photograph.

    Args:
        face: Found in it.
        width: Of the photograph, in pixels.
        height: Of the photograph.
        resolution: R of the aligned face.
        selection: Limits.

    Returns:
        The reason why it is rejected, a colon and what was measured; empty where it is good.
    """
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
    """Judges an aligned face by itself.

    Args:
        aligned: uint8 [R, R, 3].
        selection: Limits.

    Returns:
        As `reject_by_place`.
    """
    sharp = sharpness(aligned)
    if sharp < selection.least_sharpness:
        return f"blurred: sharpness {sharp:.1f}, at least {selection.least_sharpness:g} is needed"
    if selection.reject_grey and is_grey(aligned):
        return "grey: it has no colour"
    return ""


def sharpness(aligned: Pixels) -> float:
    """Variance of the Laplacian of the grey picture in the middle of a face, in squared levels of 255.

    Args:
        aligned: uint8 [R, R, 3].

    Source:
        Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    grey = cv2.cvtColor(_middle(aligned), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def is_grey(aligned: Pixels) -> bool:
    """Whether a face has no colour: its channels are the same.

    Args:
        aligned: uint8 [R, R, 3].
    """
    middle = _middle(aligned)
    spread = middle.max(axis=2).astype(int) - middle.min(axis=2)
    return bool(np.percentile(spread, 99) <= _GREY_LEVELS)


def perceptual_hash(aligned: Pixels) -> str:
    """64 bits that hardly change when a picture is stored anew, in 16 hexadecimal digits.

    Args:
        aligned: uint8 [R, R, 3].
    """
    return str(imagehash.phash(Image.fromarray(aligned)))


def nearest(digits: str, others: Sequence[str]) -> tuple[int, int]:
    """Finds the most similar face.

    Args:
        digits: Perceptual hash of a face.
        others: Those of other faces.

    Returns:
        Its position and in how many of 64 bits it differs; (-1, 65) where there are no others.
    """
    number = int(digits, 16)
    differences = [(number ^ int(other, 16)).bit_count() for other in others]
    position = int(np.argmin(differences)) if differences else -1
    return position, differences[position] if differences else 65


def _middle(aligned: Pixels) -> Pixels:
    cut = round(_FACE_PART * len(aligned))
    return aligned[cut : len(aligned) - cut, cut : len(aligned) - cut]
