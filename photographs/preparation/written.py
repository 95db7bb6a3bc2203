"""The faces of a set as they lie on the disk: a file for each, or a zip for each part."""

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from photographs.preparation.selection import TRAIN, VAL
from system.atomic_file import replacing, write_atomically


class WrittenFaces:
    """PNGs below a folder, named `train/…` or `val/…`; `pack` moves them into `train.zip` and `val.zip`.

    Args:
        folder: Of the set. Faces of zips that lie there count as written.

    Raises:
        ValueError: A zip is damaged.
    """

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
        """Gives the PNG of a written face.

        Raises:
            FileNotFoundError: It is not written.
        """
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
        """Puts faces into uncompressed zips and removes the files; whatever else a zip held is gone.

        Args:
            names: Of all faces of the set.
        """
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
