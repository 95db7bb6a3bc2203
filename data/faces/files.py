"""Where face photographs come from: a folder or an uncompressed zip, read as RGB images."""

import hashlib
import os
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from data.faces.decoding import MAX_PIXELS, decode
from data.faces.formats import NO_SUFFIX, SUFFIXES, image_suffixes, left_out_line
from system.atomic_file import printable

MAX_FILE_BYTES = 8 * MAX_PIXELS
"""Larger files are refused before they are read: an uncompressed image with four 16-bit channels."""
NOT_READABLE = -1
"""Size of what is no ordinary file: a pipe, a device, a link to nothing."""

_ZIP_ERRORS = (OSError, KeyError, ValueError, RuntimeError, EOFError, struct.error, zipfile.BadZipFile)
"""How Python's reader meets damaged archives (NotImplementedError is a RuntimeError)."""


class FaceFiles:
    """Photographs in a fixed, machine-independent order; made by `open_faces`.

    Can be pickled and used after a fork: a zip is opened once in each process that reads from it.

    Args:
        path: Folder or zip file.
        names: Names below it with `/` between their parts, sorted.
        sizes_bytes: Sizes of the files when they were listed, `NOT_READABLE` where there is no ordinary file.
        left_out: How many files beside them are no photographs that can be read, by suffix; hidden ones do not count.
    """

    def __init__(
        self, path: Path, names: list[str], sizes_bytes: list[int], left_out: Mapping[str, int] | None = None
    ) -> None:
        self.path = path
        self.names = names
        self.sizes_bytes = sizes_bytes
        self.left_out = dict(left_out or {})
        self._archive: zipfile.ZipFile | None = None
        self._archive_process = NOT_READABLE

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_archive": None, "_archive_process": NOT_READABLE}

    def take(self, part: slice) -> "FaceFiles":
        """Some of the photographs, in the same order."""
        return FaceFiles(self.path, self.names[part], self.sizes_bytes[part], self.left_out)

    def choose(self, positions: Sequence[int]) -> "FaceFiles":
        """The photographs at these positions, in their order."""
        names, sizes_bytes = [self.names[i] for i in positions], [self.sizes_bytes[i] for i in positions]
        return FaceFiles(self.path, names, sizes_bytes, self.left_out)

    def source(self, index: int) -> str:
        """Names one file in messages."""
        return f"{self.path}/{self.names[index]}"

    def read(self, index: int) -> Image.Image:
        """Reads one photograph at its full size.

        Args:
            index: Position in `names`.

        Returns:
            8-bit RGB, upright; see `data.decoding.decode` for what becomes of other modes.

        Raises:
            FileNotFoundError: If the whole set is gone.
            ValueError: If the file cannot be read or decoded, is too large or has a mode without a known range.
        """
        content = self.content(index)
        try:
            return decode(content).image
        except ValueError as error:
            raise ValueError(
                f"cannot use {self.source(index)} as a face: {error}; repair, convert or remove the file"
            ) from error

    def content(self, index: int) -> bytes:
        """The bytes of one file.

        Raises:
            FileNotFoundError: If the whole set is gone.
            ValueError: If the file is no ordinary one, is gone, too large or has changed since it was listed.
        """
        size_bytes, source = self.sizes_bytes[index], self.source(index)
        if size_bytes > MAX_FILE_BYTES:
            raise ValueError(f"cannot read {source}: it has {size_bytes} bytes, more than the {MAX_FILE_BYTES} allowed")
        try:
            if size_bytes == NOT_READABLE:
                raise OSError("it is no ordinary file, or a link to nothing")
            content = self._read_bytes(self.names[index], size_bytes + 1)  # one more: it may have grown
        except _ZIP_ERRORS as error:
            if not self.path.exists():
                raise FileNotFoundError(
                    f"the faces at {self.path} are gone; bring them back and continue with the same command"
                ) from error
            raise ValueError(f"cannot read {source}: {error}; check the file or remove it") from error
        if len(content) != size_bytes:
            raise ValueError(f"cannot read {source}: it had {size_bytes} bytes when the faces were listed, now others")
        return content

    def _read_bytes(self, name: str, most: int) -> bytes:
        if self.path.is_dir():
            with (self.path / name).open("rb") as file:
                return file.read(most)
        with self.open_archive().open(name) as member:
            return member.read(most)

    def open_archive(self) -> zipfile.ZipFile:
        """The zip as opened by this process: a handle shared after a fork would share its file position too."""
        if self._archive is None or self._archive_process != os.getpid():
            self._archive, self._archive_process = zipfile.ZipFile(self.path), os.getpid()
        return self._archive


def open_faces(path: Path | str) -> FaceFiles:
    """Lists the photographs below a folder or inside a zip in NVlabs' dataset layout.

    Args:
        path: Folder (searched recursively, links followed, hidden files skipped) or an uncompressed zip file with
            members such as `00000/img00000000.png`; other members, such as `dataset.json`, are ignored.

    Returns:
        The photographs (files with a suffix of `data.faces.formats`, in any case), sorted by their names with `/`.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If there is no photograph, or the file is no zip, is compressed, has members outside itself, two of
            one name, or sizes that contradict each other or the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"faces must be an existing folder or zip file, got {path}; check the path")
    suffixes, left_out = image_suffixes(), Counter[str]()
    files = []
    for name, size_bytes in sorted(_files_in_folder(path) if path.is_dir() else _members_of_zip(path)):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in suffixes:
            files.append((name, size_bytes))
        else:
            left_out[suffix or NO_SUFFIX] += 1
    if not files:
        raise ValueError(_nothing_found(path, left_out))
    names, sizes_bytes = [name for name, _ in files], [size_bytes for _, size_bytes in files]
    return FaceFiles(path.resolve(), names, sizes_bytes, left_out)


def print_left_out(*sets: FaceFiles) -> None:
    """Says in a line for each set what its listing passed over; nothing where that is nothing."""
    for faces in sets:
        if faces.left_out:
            print(f"{printable(str(faces.path))}: {left_out_line(faces.left_out)}", flush=True)


def hold_out(faces: FaceFiles, most: int) -> tuple[FaceFiles, FaceFiles]:
    """Divides a set into faces to train on and the last ones by name, which are held out.

    Args:
        faces: All photographs.
        most: Hold out so many, but at most a tenth of a small set and at least one.

    Returns:
        Faces to train on and held-out faces.

    Raises:
        ValueError: If there are fewer than two photographs.
    """
    if len(faces) < 2:
        raise ValueError(f"{faces.path} must hold at least two faces, one of them for validation; add more")
    number = max(1, min(most, len(faces) // 10))
    return faces.take(slice(None, -number)), faces.take(slice(-number, None))


def fingerprint(faces: FaceFiles) -> str:
    """Identifies a set of photographs in reports by the names and sizes of its files; see also `contents_fingerprint`.

    Args:
        faces: The photographs.

    Returns:
        SHA-256 as 64 hexadecimal digits; equal for a folder and a stored zip of it.
    """
    digest = hashlib.sha256()
    for name, size_bytes in zip(faces.names, faces.sizes_bytes, strict=True):
        digest.update(f"{name}\0{size_bytes}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _nothing_found(path: Path, left_out: Mapping[str, int]) -> str:
    others = f" ({left_out_line(left_out)})" if left_out else ""
    wanted = ", ".join(SUFFIXES)
    return f"{path} must hold at least one face image, found none{others}; put {wanted} files there"


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in image_suffixes()


def _is_hidden(name: PurePosixPath) -> bool:
    """Whether any part of a name is hidden or left there by macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _files_in_folder(folder: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files below a folder; a linked folder that was visited before is not entered again."""
    visited: set[str] = set()
    for current, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        folders.sort()
        real = os.path.realpath(current)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        for file in files:
            path = Path(current) / file
            name = PurePosixPath(path.relative_to(folder).as_posix())
            if not _is_hidden(name):
                yield str(name), _size_bytes(path) if _is_image(name) else NOT_READABLE


def _raise(error: OSError) -> None:
    """Makes `os.walk` stop at a folder it may not list instead of leaving it out."""
    raise error


def _size_bytes(path: Path) -> int:
    """Size of an ordinary file; reading a pipe would wait for ever, a device would never end."""
    try:
        status = path.stat()
    except OSError:
        return NOT_READABLE
    return status.st_size if stat.S_ISREG(status.st_mode) else NOT_READABLE


def _members_of_zip(path: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files in a zip whose directory is checked first."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_ERRORS as error:
        raise ValueError(f"faces must be a folder or an uncompressed zip file, got {path}: {error}") from error
    end, names = 0, set()
    for member in sorted(members, key=lambda one: one.header_offset):
        _check_member(path, member)
        if member.filename in names:
            raise ValueError(f"{path} holds two members named {member.filename!r}; make the zip again")
        if member.header_offset < end:
            raise ValueError(f"members of {path} overlap at {member.filename!r}; make the zip again")
        names.add(member.filename)
        end = member.header_offset + member.compress_size
        if not member.filename.endswith("/") and not _is_hidden(PurePosixPath(member.filename)):
            yield member.filename, member.file_size
    if end > path.stat().st_size:
        raise ValueError(f"{path} is truncated: its directory names more bytes than it has; copy it again")


def _is_image_member(member: zipfile.ZipInfo) -> bool:
    """Whether a member is an image; `ZipInfo.is_dir` fails on an empty name."""
    name = PurePosixPath(member.filename)
    return not member.filename.endswith("/") and _is_image(name) and not _is_hidden(name)


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuses members that lie elsewhere, or that are larger than the bytes the archive holds of them."""
    name = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or is_link:
        raise ValueError(f"members of {path} must lie inside it, got {member.filename!r}; make the zip again")
    if not _is_image_member(member):
        return
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size != member.compress_size:
        raise ValueError(
            f"members of {path} must be stored without compression or password, {member.filename!r} is not; "
            "make the zip again with `zip -0 -r`"
        )
