"""Faces found in photographs by YuNet, whatever the sizes of the photographs and of the faces in them."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from photographs.faces.alignment import (
    LEFT_EYE,
    LEFT_MOUTH,
    NOSE,
    RIGHT_EYE,
    RIGHT_MOUTH,
    FaceSquare,
    Pixels,
    Points,
    square_of,
    transformed,
    warp,
)
from system.machine import ROOT

DETECTOR_FILE = ROOT / "weights" / "face_detection_yunet.onnx"
SEARCHED_PIXELS = 1280
"""Longer sides of photographs are shrunk to this: a face needs about 12 pixels there to be found."""
LARGE_FACE_PIXELS = 320
"""Photographs are searched at this size too: YuNet was trained on faces up to 300 pixels and misses larger ones."""
_SMALLEST_SEARCHED = 128
_FIRST_SCORE, _SCORE = 0.5, 0.7
"""Certainty at which a place is looked at closely, and which it needs then."""
_OVERLAP = 0.3


class _CloseLook(NamedTuple):
    """One way of looking at a face closely."""

    size: int
    """Of the picture of the face, in pixels."""
    factor: float
    """How much more than the face's square is shown."""
    is_mirrored: bool


_CLOSE_LOOKS = (
    _CloseLook(96, 1.25, False),
    _CloseLook(144, 1.0, False),
    _CloseLook(224, 2.0, True),
    _CloseLook(288, 1.25, False),
)
"""The points of one look are a hundredth of the face's width off, differently in each: their mean is steadier."""
_PASSES = 2
"""All looks are taken again where their means are: what one sees depends on where it is centred, too."""
_MIRRORED_ORDER = [RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH]


class DetectedFace(NamedTuple):
    """A face in a photograph."""

    points: Points
    """[5, 2], in the order of `alignment`, in pixels of the photograph."""
    score: float
    """How certain the detector is, [0, 1]."""

    @property
    def square(self) -> FaceSquare:
        """What would be cropped."""
        return square_of(self.points)


class FaceDetector:
    """YuNet, from its ONNX file, at several sizes; an instance must not be used by two threads at once."""

    def __init__(self, file: Path = DETECTOR_FILE) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"there is no face detector at {file}; it comes with the repository, restore it")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # its graph engine warns of nothing
        self._network = cv2.FaceDetectorYN.create(str(file), "", (32, 32), _FIRST_SCORE, _OVERLAP, 5000)

    def detect(self, photo: Pixels) -> list[DetectedFace]:
        """Finds the faces of a photograph, uint8 [H, W, 3], RGB, upright, with points from eight close looks at each,
        from left to right."""
        found: list[DetectedFace] = []
        for side in _searched_sides(max(photo.shape[:2])):
            found += self._search(photo, side)
        faces: list[DetectedFace] = []
        for candidate in sorted(found, key=lambda face: -face.score):
            if any(_same_place(candidate, face) for face in faces):
                continue
            face = self._look_closely(photo, candidate)
            if face is not None and not any(_same_place(face, other) for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: tuple(face.square.centre))

    def _search(self, photo: Pixels, side: int) -> list[DetectedFace]:
        """Faces of the whole photograph, resized to a longer side."""
        height, width = photo.shape[:2]
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        faces = self._run(np.asarray(cv2.resize(photo, size, interpolation=way), dtype=np.uint8))
        return [DetectedFace(face.points * (width / size[0], height / size[1]), face.score) for face in faces]

    def _look_closely(self, photo: Pixels, candidate: DetectedFace) -> DetectedFace | None:
        """The face at a place as seen upright and alone in several sizes; None where there is none after all."""
        looks: list[DetectedFace] = []
        for number in range(1, _PASSES + 1):
            looks += [look for how in _CLOSE_LOOKS if (look := self._look(photo, candidate, how)) is not None]
            if 2 * len(looks) <= number * len(_CLOSE_LOOKS):
                return None
            points = np.mean([look.points for look in looks], axis=0)
            candidate = DetectedFace(points, float(np.mean([look.score for look in looks])))
        return candidate if candidate.score >= _SCORE else None

    def _look(self, photo: Pixels, candidate: DetectedFace, how: _CloseLook) -> DetectedFace | None:
        """The face at a place as one look shows it."""
        window, square = _shrunk(photo, candidate.square.enlarged(how.factor), how.size)
        matrix = square.to_photo(how.size)
        picture = warp(window.pixels, matrix, (how.size, how.size))
        faces = self._run(np.ascontiguousarray(picture[:, ::-1]) if how.is_mirrored else picture)
        middle = np.full(2, how.size / 2)
        distances = [float(np.hypot(*(face.square.centre - middle))) for face in faces]
        if not faces or min(distances) > 0.25 * how.size / how.factor:  # it saw nothing, or a neighbour
            return None
        face = faces[int(np.argmin(distances))]
        points = face.points
        if how.is_mirrored:
            points = (points * (-1, 1) + (how.size, 0))[_MIRRORED_ORDER]
        return DetectedFace(transformed(points, matrix) * window.scale + window.origin, face.score)

    def _run(self, picture: Pixels) -> list[DetectedFace]:
        """Faces of a picture as it is."""
        self._network.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
        return [DetectedFace(row[4:14].reshape(5, 2), float(row[14])) for row in rows]


class _Window(NamedTuple):
    """A part of a photograph, perhaps shrunk: a place p of it lies at p · scale + origin in the photograph."""

    pixels: Pixels
    scale: Points
    origin: Points


def _shrunk(photo: Pixels, square: FaceSquare, size: int) -> tuple[_Window, FaceSquare]:
    """The part around a square, shrunk without aliasing so far that the square is a little larger than wanted."""
    corners = square.corners()
    height, width = photo.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), [left + 1, top + 1], [width, height])
    part = np.ascontiguousarray(photo[top:bottom, left:right])
    shrink = max(1.0, square.side_pixels / (1.5 * size))
    shrunk = max(1, round(part.shape[1] / shrink)), max(1, round(part.shape[0] / shrink))
    scale = np.array([part.shape[1] / shrunk[0], part.shape[0] / shrunk[1]])
    origin = np.array([left, top], dtype=np.float64)
    if shrink > 1:
        part = np.asarray(cv2.resize(part, shrunk, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    # Both scales differ by rounding only; the square stays one.
    return _Window(part, scale, origin), FaceSquare((square.centre - origin) / scale, square.axis / scale.mean())


def _searched_sides(longer_side: int) -> list[int]:
    """Sizes at which a photograph is searched: for small and for large faces."""
    first = min(max(longer_side, _SMALLEST_SEARCHED), SEARCHED_PIXELS)
    return [first, LARGE_FACE_PIXELS] if first > 1.5 * LARGE_FACE_PIXELS else [first]


def _same_place(face: DetectedFace, other: DetectedFace) -> bool:
    """Whether two detections are the same face: their centres are nearer than a third of the smaller square's side."""
    distance = np.hypot(*(face.square.centre - other.square.centre))
    return bool(distance < min(face.square.side_pixels, other.square.side_pixels) / 3)
