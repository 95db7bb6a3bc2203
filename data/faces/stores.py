"""Where the bytes of photographs lie: a folder, a zip, a tar or an LMDB; each can be pickled and used after a fork."""

import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

Spans = Sequence[tuple[int, int]]
"""(start, length) of parts of a file, in bytes."""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip member: lengths of its name and of its extra field, which lie between the header and the bytes."""


class FolderStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file_of(self, name: str) -> Path:
        """The file whose times tell whether a photograph has changed."""
        return self.root / name

    def read(self, name: str, num_bytes: int) -> bytes:
        """A photograph's bytes, at most so many."""
        with (self.root / name).open("rb") as file:
            return file.read(num_bytes)

    def parts(self, name: str, spans: Spans) -> bytes:
        """Parts of a photograph's bytes, one after another."""
        return _parts(self.root / name, 0, spans)


class ZipStore:
    """Members of a zip without compression."""

    def __init__(self, path: Path) -> None:
        self.root = path
        self._archive: zipfile.ZipFile | None = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_archive": None, "_process": -1}

    def _open(self) -> zipfile.ZipFile:
        """The zip as opened by this process: a handle shared after a fork would share its file position too."""
        if self._archive is None or self._process != os.getpid():
            self._archive, self._process = zipfile.ZipFile(self.root), os.getpid()
        return self._archive

    def file_of(self, name: str) -> Path:
        """As for `FolderStore`."""
        return self.root

    def read(self, name: str, num_bytes: int) -> bytes:
        """As for `FolderStore`; the checksum is compared."""
        with self._open().open(name) as member:
            return member.read(num_bytes)

    def parts(self, name: str, spans: Spans) -> bytes:
        """As for `FolderStore`."""
        start = self._open().getinfo(name).header_offset
        header = _parts(self.root, start, [(0, 30)])
        return _parts(self.root, start + 30 + sum(_LOCAL_HEADER.unpack(header)), spans)


class TarStore:
    """Members of a tar without compression; `starts` is the offset in bytes of each one's content."""

    def __init__(self, path: Path, starts: Mapping[str, int]) -> None:
        self.root = path
        self.starts = dict(starts)

    def file_of(self, name: str) -> Path:
        """As for `FolderStore`."""
        return self.root

    def read(self, name: str, num_bytes: int) -> bytes:
        """As for `FolderStore`; beyond the member's end others begin."""
        return _parts(self.root, self.starts[name], [(0, num_bytes)])

    def parts(self, name: str, spans: Spans) -> bytes:
        """As for `FolderStore`."""
        return _parts(self.root, self.starts[name], spans)


class LmdbStore:
    """Values of an LMDB (a folder with data.mdb) whose keys are the names without their suffix, as BasicSR
    writes them."""

    def __init__(self, path: Path) -> None:
        self.root = path

    def file_of(self, name: str) -> Path:
        """As for `FolderStore`."""
        return self.root / "data.mdb"

    def read(self, name: str, num_bytes: int) -> bytes:
        """As for `FolderStore`."""
        return self.value(name)[:num_bytes]

    def parts(self, name: str, spans: Spans) -> bytes:
        """As for `FolderStore`."""
        content = self.value(name)
        return b"".join(content[start : start + length] for start, length in spans)

    def value(self, name: str) -> bytes:
        """All bytes of a photograph; KeyError where there is no such key, OSError where the database cannot be read."""
        import lmdb

        try:
            with _database(self.root).begin() as transaction:
                found = transaction.get(os.path.splitext(name)[0].encode())
        except lmdb.Error as error:
            raise OSError(str(error)) from error
        if found is None:
            raise KeyError(f"the database has no key {os.path.splitext(name)[0]}")
        content: bytes = found
        return content


Store = FolderStore | ZipStore | TarStore | LmdbStore


_databases: dict[Path, tuple[tuple[int, ...], Any]] = {}
_opening = Lock()


def _database(path: Path) -> Any:
    """An LMDB as this process has it open; once, as the library allows no more, and anew where the file was replaced.

    Nothing is written, also no lock: training sets lie on disks that can only be read.
    """
    import lmdb

    status = os.stat(path / "data.mdb")
    key = os.getpid(), status.st_ino, status.st_size, status.st_mtime_ns
    with _opening:
        known, database = _databases.get(path, ((), None))
        if known != key:
            if database is not None:  # after a fork this ends the handle of this process alone
                database.close()
            database = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
            _databases[path] = key, database
    return database


def _parts(path: Path, start: int, spans: Spans) -> bytes:
    """Parts of what begins at an offset of a file; a pipe is not waited for."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return b"".join(os.pread(file, length, start + offset) for offset, length in spans)
    finally:
        os.close(file)
