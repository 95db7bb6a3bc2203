"""Which faces of a photograph are restored, and why the others are left alone."""

from typing import NamedTuple

import cv2
import numpy as np

from photographs.faces.alignment import Pixels, align
from photographs.faces.detection import DetectedFace
from photographs.restoration.options import Choice

LOSSLESS_RATIO = 1.25
"""A face whose side is at most so many times the model's resolution counts as losing nothing there."""
MOST_COMPARED_RATIO = 2.0
"""Larger faces are compared at so many times the model's resolution: detail that it lacks begins right above it, and
the noise and blocks of a large, blurred face are averaged away."""
_FACE_PART = 0.2
"""Share of a face's square cut off at each side before its detail is measured: hair and background do not count."""


class Decision(NamedTuple):
    """What becomes of a face."""

    face: DetectedFace
    reason: str
    """Why it is left alone; empty where it is restored."""
    lost_levels: float
    """Detail that the model's resolution cannot hold, root mean square of 255 levels."""


def decide(photo: Pixels, face: DetectedFace, resolution: int, choice: Choice) -> Decision:
    """Decides about a face.

    Args:
        photo: uint8 [H, W, 3].
        face: Found in it.
        resolution: R of the model.
        choice: Limits.
    """
    side = face.square.side_pixels
    if side < choice.smallest_share * resolution:
        reason = f"too small: {side:.0f} pixels, at least {choice.smallest_share * resolution:.0f} are needed"
        return Decision(face, reason, 0.0)
    lost = lost_detail(photo, face, resolution)
    if lost > choice.most_lost_levels:
        reason = f"better than the model: at {resolution} pixels its {side:.0f} would lose {lost:.1f} levels of detail"
        return Decision(face, reason, lost)
    return Decision(face, "", lost)


def lost_detail(photo: Pixels, face: DetectedFace, resolution: int) -> float:
    """What a face loses when it is shrunk to a resolution and enlarged again.

    Args:
        photo: uint8 [H, W, 3].
        face: Found in it.
        resolution: R.

    Returns:
        Root mean square difference in the middle of the face, [0, 255]; 0 where its side is at most 1.25 R, as there
        the resampling itself costs more than the detail. Above 2 R it is measured at 2 R.
    """
    if face.square.side_pixels <= LOSSLESS_RATIO * resolution:
        return 0.0
    side = round(min(face.square.side_pixels, MOST_COMPARED_RATIO * resolution))
    own = align(photo, face.square, side)
    small = cv2.resize(own, (resolution, resolution), interpolation=cv2.INTER_AREA)
    again = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    cut = round(_FACE_PART * side)
    difference = own[cut:-cut, cut:-cut].astype(np.float32) - again[cut:-cut, cut:-cut]
    return float(np.sqrt(np.mean(difference**2)))
