"""What was done in an output folder: one line for each photograph, so that the same command goes on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from photographs.journal import Journal

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
    """The record of an output folder.

    Args:
        folder: Output.
        settings: That decide about the pixels; a folder made with others is not continued.

    Raises:
        ValueError: If the folder was made with other settings.
    """

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
        """Adds a photograph whose result is written.

        Raises:
            OSError: If the record cannot be written.
        """
        self._journal.add(asdict(record))


def summary(records: Sequence[PhotoRecord]) -> list[str]:
    """Tells in lines what became of photographs and faces.

    Args:
        records: Of all photographs.
    """
    faces = [face for record in records for face in record.faces if record.written]
    alone = Counter(face.left_alone.partition(":")[0] for face in faces if face.left_alone)
    num_restored = len(faces) - alone.total()
    lines = [f"{sum(bool(record.written) for record in records)} photographs written, {num_restored} faces restored"]
    lines += [f"{number} faces left alone, {reason}" for reason, number in sorted(alone.items())]
    without = sum(bool(record.written) and not record.faces for record in records)
    if without:
        lines.append(f"{without} photographs without a face, copied as they are")
    notes = Counter(note for record in records for note in record.notes)
    lines += [f"{number} photographs: {note}" for note, number in sorted(notes.items())]
    return lines
