"""What became of every face of a set: one line for each photograph, written as it goes, read to go on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from photographs.journal import Journal
from photographs.preparation.written import WrittenFaces

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class FaceLine:
    """What became of a face."""

    points: list[list[float]]
    """[5, 2], named by `alignment.POINT_NAMES`, in pixels of the upright photograph."""
    native_pixels: float
    """Side of its square in the photograph."""
    kept_as: str = ""
    """Its file below the output; empty where it was rejected."""
    rejected: str = ""
    """The reason; empty where it was kept."""
    perceptual_hash: str = ""
    """16 hexadecimal digits; of kept faces."""


@dataclass(frozen=True)
class PhotoLine:
    """What became of a photograph."""

    source: str
    """Its name below the input."""
    size_bytes: int
    """Of its file when it was read; another size means another photograph."""
    part: str = ""
    """`train` or `val`."""
    problem: str = ""
    """Why it could not be read."""
    faces: list[FaceLine] = field(default_factory=list)

    def kept(self) -> list[FaceLine]:
        """Faces that were written."""
        return [face for face in self.faces if face.kept_as]


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: Output.
        settings: That decide about the faces; a folder made with others is not continued.

    Raises:
        ValueError: If the folder was made with other settings or by something else, or what lies there is damaged.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.written = WrittenFaces(folder)
        self.file = folder / MANIFEST_NAME
        if folder.is_dir() and any(folder.iterdir()) and not self.file.is_file():
            raise ValueError(f"{folder} holds files of something else; choose another output")
        self._journal = Journal(self.file, settings)
        entries = [entry | {"faces": [FaceLine(**face) for face in entry["faces"]]} for entry in self._journal.entries]
        self.lines = {entry["source"]: PhotoLine(**entry) for entry in entries}

    def done(self, source: str, size_bytes: int) -> PhotoLine | None:
        """What an earlier command did with a photograph, None where it has to be looked at (again)."""
        line = self.lines.get(source)
        if line is None or line.problem or line.size_bytes != size_bytes:
            return None
        return line if all(self.written.has(face.kept_as) for face in line.kept()) else None

    def add(self, line: PhotoLine) -> None:
        """Adds a photograph whose faces are written.

        Raises:
            OSError: If the manifest cannot be written.
        """
        self.lines[line.source] = line
        self._journal.add(asdict(line))


def counts(lines: Sequence[PhotoLine]) -> dict[str, Any]:
    """Counts what became of photographs and faces.

    Args:
        lines: Of all photographs.

    Returns:
        Numbers by words; `rejected` holds one for each reason.
    """
    faces = [face for line in lines for face in line.faces]
    rejected = Counter(face.rejected.partition(":")[0] for face in faces if face.rejected)
    return {
        "photographs": len(lines),
        "not_readable": sum(bool(line.problem) for line in lines),
        "without_a_face": sum(not line.problem and not line.faces for line in lines),
        "faces": len(faces),
        "train": sum(len(line.kept()) for line in lines if line.part == "train"),
        "val": sum(len(line.kept()) for line in lines if line.part == "val"),
        "rejected": dict(sorted(rejected.items())),
    }


def summary_lines(numbers: dict[str, Any]) -> list[str]:
    """The counts as lines of text."""
    lines = [f"{numbers['photographs']} photographs with {numbers['faces']} faces"]
    lines.append(
        f"{numbers['train'] + numbers['val']} faces kept: {numbers['train']} in train, {numbers['val']} in val"
    )
    lines += [f"{number} faces rejected, {reason}" for reason, number in numbers["rejected"].items()]
    if numbers["without_a_face"]:
        lines.append(f"{numbers['without_a_face']} photographs without a face")
    if numbers["not_readable"]:
        lines.append(f"{numbers['not_readable']} photographs could not be read and were skipped")
    return lines
