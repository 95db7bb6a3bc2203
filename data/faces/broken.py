"""Face files that cannot be used: noted in a report that all processes of a run share, fatal when they are too many."""

import bisect
import fcntl
import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from data.faces.decoding import decode
from data.faces.files import FaceFiles
from system.wording import unwrapped

LARGEST_SHARE = 0.5


class BrokenFaces:
    """The broken files of a set. The report is the only truth: workers, processes and later runs add to the same one.

    Args:
        faces: The set.
        report: File of JSON lines, one for each broken file: {"file": name, "reason": text}, and "deadly": true for one
            that ends its reader, which is not opened again while the line stands. Made with the first.
        largest_share: Of the set that may be broken, [0, 0.5], else ValueError. Unless it is 0, one file always may.
    """

    def __init__(self, faces: FaceFiles, report: Path, largest_share: float) -> None:
        if not 0 <= largest_share <= LARGEST_SHARE:
            raise ValueError(
                f"the share of faces that may be broken must lie in [0, {LARGEST_SHARE}], got {largest_share}"
            )
        self.faces = faces
        self.report = report
        at_least = 1 if largest_share > 0 else 0
        self.most = min(max(int(largest_share * len(faces)), at_least), len(faces) - 1)
        self._known: set[str] = set()
        self._deadly: set[str] | None = None

    def add(self, index: int, reason: str, is_deadly: bool = False) -> None:
        """Notes a file, once, with a reason that names it, and whether its reader dies or never ends. A ValueError
        names the file and the report where more are broken than may be."""
        name = self.faces.names[index]
        if name in self._known:
            return
        entry: dict[str, Any] = {"file": name, "reason": unwrapped(reason)}
        line = json.dumps(entry | ({"deadly": True} if is_deadly else {})) + "\n"
        self.report.parent.mkdir(parents=True, exist_ok=True)
        with self.report.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            names = {entry["file"] for entry in self._read(file)}
            if name not in names:
                file.write(line.encode() if _ends_a_line(file) else b"\n" + line.encode())
                names.add(name)
        if len(names) > self.most:
            raise ValueError(
                f"{len(names)} of {len(self.faces)} faces cannot be used, at most {self.most} may be broken "
                f"(data.max_broken_share); the last: {reason}; {self.report} names all of them"
            )
        self._known.add(name)

    def is_deadly(self, index: int) -> bool:
        """Whether the report said, when this process first asked, that a file ends its reader."""
        if self._deadly is None:
            self._deadly = {entry["file"] for entry in self._entries() if entry.get("deadly")}
        return self.faces.names[index] in self._deadly

    def count(self) -> int:
        """Broken files that were met so far, by all processes of the run together."""
        return len({entry["file"] for entry in self._entries()})

    def _entries(self) -> list[dict[str, Any]]:
        if not self.report.is_file():
            return []
        with self.report.open("rb") as file:
            return self._read(file)

    def _read(self, file: BinaryIO) -> list[dict[str, Any]]:
        """The entries of files of this set; a line that a killed process left unfinished is passed over."""
        file.seek(0)
        entries = []
        for line in file:
            try:
                entry = json.loads(line)
                name = str(entry["file"])
            except (ValueError, KeyError, TypeError):
                continue
            place = bisect.bisect_left(self.faces.names, name)
            if self.faces.names[place : place + 1] == [name]:
                entries.append(entry)
        return entries


def usable_faces(faces: FaceFiles, report: Path, largest_share: float, degraded: FaceFiles | None = None) -> list[int]:
    """Decodes all photographs of a small set, and their degraded versions in the same order, once, and gives the
    positions of those that can be used; `report` and `largest_share` as for `BrokenFaces`. ValueError where too many
    are broken."""
    broken = BrokenFaces(faces, report, largest_share)
    usable = []
    for index in range(len(faces)):
        try:
            for files in (faces, degraded):
                if files is not None:
                    files.read(index)
            usable.append(index)
        except ValueError as error:
            broken.add(index, str(error))
    return usable


def deadly_problem(faces: FaceFiles, index: int, seconds: float = 25.0) -> str | None:
    """Reads a file in a process of its own, to find out whether it was what a reader died of or hung on. Returns what
    happened, None if the file was decoded or refused in time, or its bytes did not arrive: then the storage is to blame
    and not the file."""
    context = multiprocessing.get_context("fork")  # as the readers are
    has_arrived = context.Event()
    process = context.Process(target=_read_alone, args=(faces, index, has_arrived), daemon=True)
    process.start()
    process.join(seconds)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    if not has_arrived.is_set() or process.exitcode == 0:
        return None
    how = f"takes longer than {seconds:.0f} seconds to decode" if hangs else f"ends its reader ({process.exitcode})"
    return f"cannot use {faces.source(index)} as a face: it {how}; repair, convert or remove the file"


def _read_alone(faces: FaceFiles, index: int, has_arrived: Event) -> None:
    with suppress(ValueError, OSError):
        faces.content(index)
        has_arrived.set()
        faces.read(index)


def _ends_a_line(file: BinaryIO) -> bool:
    """Whether the next line may begin where the file ends."""
    if file.seek(0, 2) == 0:
        return True
    file.seek(-1, 2)
    return file.read(1) == b"\n"


class CheckedFace(NamedTuple):
    """What was found out about one file."""

    name: str
    """Below the folder or in the zip."""
    problem: str | None
    """Why it cannot be used, None where it can."""
    format: str = ""
    """Such as JPEG."""
    mode: str = ""
    """As stored, such as RGB, CMYK, P (palette) or I;16 (16-bit grey)."""
    size_pixels: tuple[int, int] = (0, 0)
    """Width and height, upright."""
    digest: str = ""
    """SHA-256 of the decoded pixels, hexadecimal."""
    profile: str = ""
    """What its colour profile calls itself and what became of it; empty where there is none."""
    is_transparent: bool = False
    """Whether it was laid over the set's background."""


def check_faces(faces: FaceFiles, num_threads: int = 4) -> Iterator[CheckedFace]:
    """Decodes every file of a set, some at once, as Pillow's decoders run side by side: one result each, in the order
    of the names. FileNotFoundError where the whole set is gone."""
    with ThreadPoolExecutor(num_threads) as pool:
        yield from pool.map(lambda index: _check(faces, index), range(len(faces)))


def _check(faces: FaceFiles, index: int) -> CheckedFace:
    name = faces.names[index]
    try:
        photograph = decode(faces.content(index), faces.background)
    except ValueError as error:
        return CheckedFace(name, unwrapped(error))
    image, form = photograph.image, (photograph.format, photograph.mode)
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    return CheckedFace(name, None, *form, image.size, digest, photograph.profile, photograph.is_transparent)


def same_pictures(checked: list[CheckedFace]) -> list[list[str]]:
    """Names of files that show the same pixels, group by group, whatever their formats."""
    groups: dict[str, list[str]] = {}
    for face in checked:
        if face.problem is None:
            groups.setdefault(face.digest, []).append(face.name)
    return [names for names in groups.values() if len(names) > 1]
