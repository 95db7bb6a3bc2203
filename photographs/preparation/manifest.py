"""The faces of a set as they lie on the disk, and what became of each: one line for each photograph, to go on from."""

import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from photographs.journal import Journal
from photographs.preparation.selection import TRAIN, VAL
from system.atomic_file import replacing, write_atomically
from system.wording import counted

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class FaceLine:
    """What became of a face."""

    points: list[list[float]]
    """[5, 2], in the order of `alignment`, in pixels of the upright photograph."""
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


class WrittenFaces:
    """PNGs below the folder of a set, named `train/…` or `val/…`; `pack` moves them into `train.zip` and `val.zip`,
    whose faces count as written. ValueError where a zip is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._packed: set[str] = set()
        for part in (TRAIN, VAL):
            self._open(part)

    def has(self, name: str) -> bool:
        """Whether a face is written."""
        return _member(name) in self._packed or (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        """Gives the PNG of a face; FileNotFoundError where it is not written."""
        if _member(name) not in self._packed:
            return (self.folder / name).read_bytes()
        part, _, member = _member(name).partition("/")
        return self._archives[part].read(member)

    def write(self, name: str, png: bytes) -> None:
        """Writes a face as a file, in the place of an earlier one."""
        write_atomically(self.folder / name, png)
        self._packed.discard(_member(name))

    def remove(self, name: str) -> None:
        """Removes a face, if it is there; from a zip when the set is packed."""
        (self.folder / name).unlink(missing_ok=True)
        self._packed.discard(_member(name))

    def pack(self, names: Iterable[str]) -> None:
        """Puts all faces of the set into uncompressed zips and removes the files; what else a zip held is gone."""
        chosen = sorted(names)
        for part in (TRAIN, VAL):
            of_part = [name for name in chosen if name.startswith(f"{part}/")]
            members = [_member(name).partition("/")[2] for name in of_part]
            held = self._archives[part].namelist() if part in self._archives else []
            if of_part and (members != held or (self.folder / part).exists()):
                with replacing(self._zip_of(part)) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
                    for name, member in zip(of_part, members, strict=True):
                        archive.writestr(zipfile.ZipInfo(member), self.read(name))  # without a time: equal bytes
            elif not of_part:
                self._zip_of(part).unlink(missing_ok=True)
            self._open(part)
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def _zip_of(self, part: str) -> Path:
        return self.folder / f"{part}.zip"

    def _open(self, part: str) -> None:
        """Reads what a zip holds now."""
        if part in self._archives:
            self._archives.pop(part).close()
        self._packed = {name for name in self._packed if not name.startswith(f"{part}/")}
        file = self._zip_of(part)
        if not file.is_file():
            return
        try:
            self._archives[part] = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{file} is damaged ({error}); remove it, its faces are cut out again") from error
        self._packed |= {f"{part}/{name}" for name in self._archives[part].namelist()}


def _member(name: str) -> str:
    """A name as a zip can hold it: what is no UTF-8 is written as an escape."""
    return name.encode(errors="backslashreplace").decode()


class Manifest:
    """The manifest of an output folder; ValueError where the folder was made by something else or with other settings
    that decide about the faces, or what lies there is damaged."""

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
        """Adds a photograph whose faces are written."""
        self.lines[line.source] = line
        self._journal.add(asdict(line))


def counts(lines: Sequence[PhotoLine]) -> dict[str, Any]:
    """Counts what became of all photographs and their faces: numbers by words; `rejected` holds one for each reason."""
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
    train, val = numbers["train"], numbers["val"]
    lines = [f"{counted(numbers['photographs'], 'photograph')} with {counted(numbers['faces'], 'face')}"]
    lines.append(f"{counted(train + val, 'face')} kept: {train} in train, {val} in val")
    lines += [f"{counted(number, 'face')} rejected, {reason}" for reason, number in numbers["rejected"].items()]
    if numbers["without_a_face"]:
        lines.append(f"{counted(numbers['without_a_face'], 'photograph')} without a face")
    if numbers["not_readable"]:
        lines.append(f"{counted(numbers['not_readable'], 'photograph')} skipped, not readable")
    return lines
