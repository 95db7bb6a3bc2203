"""Which faces of a photograph are restored, why the others are left alone, and the line that says so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from photographs.faces.alignment import Pixels, align, inner
from photographs.faces.detection import DetectedFace
from photographs.journal import Journal
from photographs.options import Choice
from system.wording import counted

RECORD_NAME = "restored_photographs.jsonl"


@dataclass(frozen=True)
class FaceRecord:
    """What became of a face."""

    points: list[list[float]]
    """[5, 2], in pixels of the upright photograph."""
    side_pixels: float
    """Of its square."""
    left_alone: str
    """Why it was not restored; empty where it was."""


@dataclass(frozen=True)
class PhotoRecord:
    """What became of a photograph."""

    photo: str
    """Its name below the input."""
    size_bytes: int
    """Of its file when it was read; another size means another photograph."""
    written: str = ""
    """Its name below the output; empty where nothing was written."""
    problem: str = ""
    """Why nothing was written."""
    faces: list[FaceRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What of the file could not be kept."""


class Record:
    """The record of an output folder; ValueError where it was made with other settings that decide about the pixels."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._journal = Journal(folder / RECORD_NAME, settings)
        self._done: dict[tuple[str, int], PhotoRecord] = {}
        for line in self._journal.entries:
            record = PhotoRecord(**line | {"faces": [FaceRecord(**face) for face in line["faces"]]})
            if not record.problem and (folder / record.written).is_file():
                self._done[record.photo, record.size_bytes] = record

    def done(self, photo: str, size_bytes: int) -> PhotoRecord | None:
        """What an earlier command did with a photograph, None if it is still to be done."""
        return self._done.get((photo, size_bytes))

    def add(self, record: PhotoRecord) -> None:
        """Adds a photograph whose result is written."""
        self._journal.add(asdict(record))


def summary(records: Sequence[PhotoRecord]) -> list[str]:
    """Tells in lines what became of photographs and faces."""
    faces = [face for record in records for face in record.faces if record.written]
    alone = Counter(face.left_alone.partition(":")[0] for face in faces if face.left_alone)
    num_restored = len(faces) - alone.total()
    written = counted(sum(bool(record.written) for record in records), "photograph")
    lines = [f"{written} written, {counted(num_restored, 'face')} restored"]
    lines += [f"{counted(number, 'face')} left alone, {reason}" for reason, number in sorted(alone.items())]
    without = sum(bool(record.written) and not record.faces for record in records)
    if without:
        lines.append(f"{counted(without, 'photograph')} without a face, copied as they are")
    notes = Counter(note for record in records for note in record.notes)
    lines += [f"{counted(number, 'photograph')}: {note}" for note, number in sorted(notes.items())]
    return lines


LOSSLESS_RATIO = 1.25
"""A face whose side is at most so many times the model's resolution counts as losing nothing there."""
MOST_COMPARED_RATIO = 2.0
"""Larger faces are compared at so many times the model's resolution: detail that it lacks begins right above it, and
the noise and blocks of a large, blurred face are averaged away."""


class Decision(NamedTuple):
    """What becomes of a face."""

    face: DetectedFace
    reason: str
    """Why it is left alone; empty where it is restored."""
    lost_levels: float
    """Detail that the model's resolution cannot hold, root mean square of 255 levels."""


def decide(photo: Pixels, face: DetectedFace, resolution: int, choice: Choice) -> Decision:
    """Decides about a face in a photograph, uint8 [H, W, 3], for a model of R pixels."""
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
    """What a face in a photograph, uint8 [H, W, 3], loses when it is shrunk to R pixels and enlarged again.

    Root mean square difference in the middle of the face, [0, 255]; 0 where its side is at most 1.25 R, as there the
    resampling itself costs more than the detail. Above 2 R it is measured at 2 R.
    """
    if face.square.side_pixels <= LOSSLESS_RATIO * resolution:
        return 0.0
    side = round(min(face.square.side_pixels, MOST_COMPARED_RATIO * resolution))
    own = align(photo, face.square, side)
    small = cv2.resize(own, (resolution, resolution), interpolation=cv2.INTER_AREA)
    again = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    difference = inner(own).astype(np.float32) - inner(np.asarray(again, dtype=np.uint8))
    return float(np.sqrt(np.mean(difference**2)))
