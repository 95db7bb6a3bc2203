"""Face files that cannot be used: noted in a report that all processes of a run share, fatal when they are too many."""

import bisect
import fcntl
import json
from pathlib import Path
from typing import BinaryIO

from data.faces.files import FaceFiles

LARGEST_SHARE = 0.5


class BrokenFaces:
    """The broken files of a set. The report is the only truth: workers, processes and later runs add to the same one.

    Args:
        faces: The set.
        report: File of JSON lines, one for each broken file: {"file": name, "reason": text}. Made with the first.
        largest_share: Of the set that may be broken, [0, 0.5]. Unless it is 0, one file always may.

    Raises:
        ValueError: If the share is out of its range.
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

    def add(self, index: int, reason: str) -> None:
        """Notes a file, once.

        Args:
            index: Position in the set.
            reason: What is wrong with it; names the file.

        Raises:
            ValueError: If more files are broken than may be; names this file and the report.
            OSError: If the report cannot be written.
        """
        name = self.faces.names[index]
        if name in self._known:
            return
        line = json.dumps({"file": name, "reason": " ".join(reason.split())}) + "\n"
        self.report.parent.mkdir(parents=True, exist_ok=True)
        with self.report.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            names = self._names(file)
            if name not in names:
                file.write(line.encode() if _ends_a_line(file) else b"\n" + line.encode())
                names.add(name)
        if len(names) > self.most:
            raise ValueError(
                f"{len(names)} of {len(self.faces)} faces cannot be used, at most {self.most} may be broken "
                f"(data.reading.max_broken_share); the last: {reason}; {self.report} names all of them"
            )
        self._known.add(name)

    def count(self) -> int:
        """Broken files that were met so far, by all processes of the run together."""
        if not self.report.is_file():
            return 0
        with self.report.open("rb") as file:
            return len(self._names(file))

    def _names(self, file: BinaryIO) -> set[str]:
        """The files of this set in the report; a line that a killed process left unfinished is passed over."""
        file.seek(0)
        names = set()
        for line in file:
            try:
                name = json.loads(line)["file"]
            except ValueError:
                continue
            place = bisect.bisect_left(self.faces.names, name)
            if self.faces.names[place : place + 1] == [name]:
                names.add(name)
        return names


def usable_faces(faces: FaceFiles, report: Path, largest_share: float) -> FaceFiles:
    """Decodes all photographs of a small set once and leaves out those that cannot be used.

    Args:
        faces: Such as the validation faces.
        report: As for `BrokenFaces`.
        largest_share: As for `BrokenFaces`.

    Returns:
        The faces that can be used, in the same order.

    Raises:
        ValueError: If too many are broken.
    """
    broken = BrokenFaces(faces, report, largest_share)
    usable = []
    for index in range(len(faces)):
        try:
            faces.read(index)
            usable.append(index)
        except ValueError as error:
            broken.add(index, str(error))
    return FaceFiles(faces.path, [faces.names[i] for i in usable], [faces.sizes_bytes[i] for i in usable])


def _ends_a_line(file: BinaryIO) -> bool:
    """Whether the next line may begin where the file ends."""
    if file.seek(0, 2) == 0:
        return True
    file.seek(-1, 2)
    return file.read(1) == b"\n"
