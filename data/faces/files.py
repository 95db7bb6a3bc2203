"""Where photographs come from: folders, archives, databases and lists, read as RGB images, known by their contents."""

import hashlib
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from data.faces.decoding import (
    BLACK,
    MAX_PIXELS,
    NO_SUFFIX,
    SUFFIXES,
    Color,
    color_of,
    decode,
    image_suffixes,
    left_out_line,
)
from data.faces.listing import NOT_READABLE, ZIP_ERRORS, list_files
from data.faces.stores import FolderStore, Store, TarStore
from system.paths import way_out
from system.wording import printable

MAX_FILE_BYTES = 8 * MAX_PIXELS
"""Larger files are refused before they are read: an uncompressed image with four 16-bit channels."""


class FaceFiles:
    """Photographs in a fixed, machine-independent order; made by `open_faces`.

    Can be pickled and used after a fork: a zip is opened once in each process that reads from it.

    Args:
        path: Folder, archive, database or list as it was opened.
        names: Names below its store with `/` between their parts, sorted.
        sizes_bytes: Sizes of the files when they were listed, `NOT_READABLE` where there is no ordinary file.
        left_out: How many files beside them are no photographs that can be read, by suffix; hidden ones do not count.
        store: Where the bytes lie; None for the folder `path`.
        background: What transparent pictures are laid over.
    """

    def __init__(
        self,
        path: Path,
        names: list[str],
        sizes_bytes: list[int],
        left_out: Mapping[str, int] | None = None,
        store: Store | None = None,
        background: Color = BLACK,
    ) -> None:
        self.path = path
        self.names = names
        self.sizes_bytes = sizes_bytes
        self.left_out = dict(left_out or {})
        self.store = FolderStore(path) if store is None else store
        self.background = background

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.names)

    def take(self, part: slice) -> "FaceFiles":
        """Some of the photographs, in the same order."""
        return self.choose(range(len(self))[part])

    def choose(self, positions: Sequence[int]) -> "FaceFiles":
        """The photographs at these positions, in their order."""
        names, sizes_bytes = [self.names[i] for i in positions], [self.sizes_bytes[i] for i in positions]
        return FaceFiles(self.path, names, sizes_bytes, self.left_out, self.store, self.background)

    def source(self, index: int) -> str:
        """Names one file in messages."""
        return f"{self.store.root}/{self.names[index]}"

    def read(self, index: int) -> Image.Image:
        """Reads one photograph at its full size as 8-bit RGB, upright; see `data.faces.decoding.decode` for what
        becomes of other modes. FileNotFoundError where the whole set is gone, ValueError where the file cannot be read
        or decoded."""
        content = self.content(index)
        try:
            return decode(content, self.background).image
        except ValueError as error:
            raise ValueError(
                f"cannot use {self.source(index)} as a face: {error}; repair, convert or remove the file"
            ) from error

    def content(self, index: int) -> bytes:
        """The bytes of one file; FileNotFoundError where the whole set is gone, ValueError where the file is no
        ordinary one, is gone, too large or has changed since it was listed."""
        size_bytes, source = self.sizes_bytes[index], self.source(index)
        if size_bytes > MAX_FILE_BYTES:
            raise ValueError(f"cannot read {source}: it has {size_bytes} bytes, more than the {MAX_FILE_BYTES} allowed")
        try:
            if size_bytes == NOT_READABLE:
                raise OSError("it is no ordinary file, or a link to nothing")
            # One byte more: a file may have grown; behind a member of a tar others begin.
            num_bytes = size_bytes if isinstance(self.store, TarStore) else size_bytes + 1
            content = self.store.read(self.names[index], num_bytes)
        except ZIP_ERRORS as error:
            if not self.path.exists():
                raise FileNotFoundError(
                    f"the faces at {self.path} are gone; bring them back and continue with the same command"
                ) from error
            raise ValueError(f"cannot read {source}: {error}; check the file or remove it") from error
        if len(content) != size_bytes:
            raise ValueError(f"cannot read {source}: it had {size_bytes} bytes when the faces were listed, now others")
        return content


def check_faces_exist(*paths: Path | None) -> None:
    """Raises FileNotFoundError where nothing is at one of the paths at which faces should be, None aside: commands look
    before they load what takes long."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"faces must be an existing folder, archive or list, got {path}{way_out(path)}")


def open_faces(path: Path | str, background: str = "black") -> FaceFiles:
    """Lists the photographs (files with a suffix of `data.faces.decoding`, in any case) below a folder or inside
    something else that holds some, sorted by their names with `/`.

    Args:
        path: Folder (searched recursively, links followed, hidden files skipped), an uncompressed zip in NVlabs'
            dataset layout (`00000/img00000000.png`) or tar, an LMDB as BasicSR writes it, a text file that lists paths,
            or one picture. `~` is the home folder.
        background: Colour that transparent pictures are laid over, for `color_of`.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: The colour is none, there is no photograph, or the file is something else, is compressed, has
            members outside itself, two of one name, or sizes that contradict each other or the file.
    """
    path, color = Path(path).expanduser(), color_of(background)
    check_faces_exist(path)
    suffixes, left_out = image_suffixes(), Counter[str]()
    store, listed = list_files(path)
    files = []
    for name, size_bytes in sorted(listed):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in suffixes:
            files.append((name, size_bytes))
        else:
            left_out[suffix or NO_SUFFIX] += 1
    if not files:
        raise ValueError(_nothing_found(path, left_out))
    names, sizes_bytes = [name for name, _ in files], [size_bytes for _, size_bytes in files]
    return FaceFiles(path.resolve(), names, sizes_bytes, left_out, store, color)


@dataclass(frozen=True)
class Pictures:
    """How pictures are read."""

    background_color: str = "black"
    """What transparent pictures are laid over, a name or '#rrggbb'."""

    def open(self, path: Path | str) -> FaceFiles:
        """Lists photographs as `open_faces` does."""
        return open_faces(path, self.background_color)

    def training_options(self) -> list[str]:
        """The arguments of `python -m train fit` that say the same, none where it is as usual."""
        return [] if self == Pictures() else ["--data.background", self.background_color]


def print_left_out(*sets: FaceFiles) -> None:
    """Says in a line for each set what its listing passed over; nothing where that is nothing."""
    for faces in sets:
        if faces.left_out:
            print(f"{printable(str(faces.path))}: {left_out_line(faces.left_out)}", flush=True)


def hold_out(faces: FaceFiles, num_held_out: int) -> tuple[FaceFiles, FaceFiles]:
    """Divides a set into faces to train on and the last ones by name, which are held out: so many, but at most a tenth
    of a small set and at least one. ValueError where there are fewer than two photographs."""
    if len(faces) < 2:
        raise ValueError(f"{faces.path} must hold at least two faces, one of them for validation; add more")
    number = max(1, min(num_held_out, len(faces) // 10))
    return faces.take(slice(None, -number)), faces.take(slice(-number, None))


def fingerprint(faces: FaceFiles) -> str:
    """Identifies a set of photographs in reports by the names and sizes of its files: SHA-256 as 64 hexadecimal digits;
    equal for a folder and a stored zip of it. See also `contents_fingerprint`."""
    digest = hashlib.sha256()
    for name, size_bytes in zip(faces.names, faces.sizes_bytes, strict=True):
        digest.update(f"{name}\0{size_bytes}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _nothing_found(path: Path, left_out: Mapping[str, int]) -> str:
    others = f" ({left_out_line(left_out)})" if left_out else ""
    wanted = ", ".join(SUFFIXES)
    return f"{path} must hold at least one face image, found none{others}; put {wanted} files there"


BLOCK_BYTES = 4096
NUM_THREADS = 8
"""Files looked at side by side, as each look may wait for a server."""


def contents_fingerprint(faces: FaceFiles) -> str:
    """Identifies photographs by their names and by the first, middle and last 4 KiB of each file, as `fingerprint`
    does.

    Compressed files differ at their end whatever pixel differs (a PNG ends with a checksum of all); of uncompressed
    ones a change between the three places is not seen. Costs three reads a file: 70,000 faces take seconds from a local
    disk, and minutes from a slow server, which is why a run looks again only where `times_fingerprint` differs.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for name, blocks in zip(faces.names, pool.map(_reader(faces), range(len(faces))), strict=True):
            digest.update(f"{name}\0{len(blocks)}\n".encode("utf-8", "surrogateescape"))
            digest.update(blocks)
    return digest.hexdigest()


def times_fingerprint(faces: FaceFiles) -> str:
    """Changes whenever a file may have changed: names, sizes, places and times of the files, SHA-256 in hexadecimal.

    The time of the last change of a file's entry is part of it, which no program can set back.
    """
    digest = hashlib.sha256()
    for path in dict.fromkeys(faces.store.file_of(name) for name in faces.names):
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        except OSError:
            state = "gone"
        digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _reader(faces: FaceFiles) -> Callable[[int], bytes]:
    """Gives the sampled bytes of a file of the set, none where it cannot be read."""

    def read(index: int) -> bytes:
        name, size_bytes = faces.names[index], faces.sizes_bytes[index]
        if size_bytes < 0:
            return b""
        spans = [(place, BLOCK_BYTES) for place in (0, (size_bytes - BLOCK_BYTES) // 2, size_bytes - BLOCK_BYTES)]
        try:
            return faces.store.parts(name, spans if size_bytes > 3 * BLOCK_BYTES else [(0, size_bytes)])
        except (OSError, KeyError, ValueError, struct.error, zipfile.BadZipFile):
            return b""

    return read
