"""What a path holds: names and sizes of the files in a folder, an archive, a database or a list."""

import os
import stat
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from data.faces.decoding import ADVICE, image_suffixes
from data.faces.stores import FolderStore, LmdbStore, Store, TarStore, ZipStore
from system.wording import printable

NOT_READABLE = -1
"""Size of what is no ordinary file: a pipe, a device, a link to nothing."""
MAX_LIST_BYTES = 2**28
"""Larger lists of paths are not read: ten million lines have as much."""
ZIP_ERRORS = (OSError, KeyError, ValueError, RuntimeError, EOFError, struct.error, zipfile.BadZipFile)
"""How Python's reader meets damaged archives (NotImplementedError is a RuntimeError)."""
KINDS = "a folder, an uncompressed zip or tar, an LMDB as BasicSR writes it, a list of paths (.txt) or a picture"
Listed = list[tuple[str, int]]
"""Name below the store and size in bytes."""


def list_files(path: Path) -> tuple[Store, Listed]:
    """Finds out what an existing path is and lists the files in it, hidden ones left out: where the bytes lie, and name
    and size of each file, in no particular order. ValueError says what it is where it is something else, or damaged."""
    if path.is_dir():
        if (path / "data.mdb").is_file():
            return _values_of_lmdb(path.resolve())
        return FolderStore(path.resolve()), list(_files_in_folder(path))
    if not path.is_file():
        raise ValueError(f"faces must be {KINDS}, got {path}, which is no ordinary file")
    with path.open("rb") as file:
        head = file.read(512)
    if head[:2] == b"PK" or (path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)):
        return ZipStore(path.resolve()), list(_members_of_zip(path))
    if path.suffix.lower() in image_suffixes():
        return FolderStore(path.resolve().parent), [(path.name, _size_bytes(path))]
    if head[257:262] == b"ustar" or path.suffix.lower() == ".tar" or _is_compressed_tar(path):
        return _members_of_tar(path.resolve())
    if head and b"\0" not in head and path.suffix.lower() in (".txt", ".lst", ".list", ".csv", ""):
        return _files_of_list(path)
    if advice := ADVICE.get(path.suffix.lower()):
        raise ValueError(f"files such as {path} cannot be read as they are; {advice}")
    raise ValueError(f"faces must be {KINDS}, got {path}, which is none of them (it begins with {head[:8]!r})")


def with_listed(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Inputs by words that say what they are, and beside those that are lists the folders of the pictures they name."""
    folders: dict[str, Path] = {}
    for words, path in inputs.items():
        if not path.is_file() or path.suffix.lower() in image_suffixes():
            continue
        try:
            store, files = list_files(path)
        except (OSError, ValueError):  # no faces
            continue
        places = {(store.root / name).parent for name, _ in files} if isinstance(store, FolderStore) else set()
        folders |= {f"{words}: {path} names pictures in {place}": place for place in places}
    return {**inputs, **folders}


def _is_compressed_tar(path: Path) -> bool:
    return any(suffix in (".tar", ".tgz", ".tbz", ".txz") for suffix in path.suffixes[-2:])


def _files_of_list(path: Path) -> tuple[Store, Listed]:
    """Files named line by line: absolute, from the home folder, or from the folder of the list.

    What follows a name after a space is passed over where there is no file with a space in its name, as in BasicSR's
    meta_info files.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_LIST_BYTES:
        raise ValueError(f"a list of paths may have {MAX_LIST_BYTES} bytes, {path} has {size_bytes}; divide it")
    lines = path.read_bytes().decode("utf-8-sig", "surrogateescape").splitlines()
    files: list[str] = []
    missing: list[str] = []
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        places = [os.path.join(path.resolve().parent, os.path.expanduser(text)) for text in (line, line.split()[0])]
        found = next((place for place in places if os.path.isfile(place)), None)
        (missing if found is None else files).append(os.path.normpath(found or places[0]))
    if missing or not files:
        what = f"{len(missing)} do not, such as {printable(missing[0])}" if missing else "it names none"
        raise ValueError(f"every line of {path} must name a picture that exists; {what}; correct the list")
    most_common = Counter(files).most_common(1)[0]
    if most_common[1] > 1:
        raise ValueError(f"{path} names {printable(most_common[0])} {most_common[1]} times; leave one line of it")
    root = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    return FolderStore(root), [(os.path.relpath(file, root), _size_bytes(Path(file))) for file in files]


def _members_of_tar(path: Path) -> tuple[Store, Listed]:
    """Regular files in a tar whose headers are checked first."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if not member.isdir()]
    except (tarfile.TarError, *ZIP_ERRORS) as error:
        if _opens_compressed(path):
            raise ValueError(f"{path} is a compressed tar, which has no places to read from; unpack it") from error
        raise ValueError(f"faces must be {KINDS}, got {path}, a damaged tar: {error}") from error
    starts: dict[str, int] = {}
    files = []
    for member in members:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"members of {path} must lie inside it, got {printable(member.name)!r}; make the tar again"
            )
        if str(name) in starts:
            raise ValueError(f"{path} holds two members named {printable(str(name))!r}; make the tar again")
        if not member.isreg() or member.issparse():
            if is_image(name) and not is_hidden(name):
                raise ValueError(f"members of {path} must be files, {printable(member.name)!r} is not; use tar -h")
            continue
        if member.offset_data + member.size > path.stat().st_size:
            raise ValueError(f"{path} is truncated: its headers name more bytes than it has; copy it again")
        starts[str(name)] = member.offset_data
        if not is_hidden(name):
            files.append((str(name), member.size))
    return TarStore(path, starts), files


def _opens_compressed(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:*") as archive:
            return archive.next() is not None
    except (tarfile.TarError, *ZIP_ERRORS):
        return False


def _values_of_lmdb(path: Path) -> tuple[Store, Listed]:
    """Pictures that meta_info.txt names, one a line with its shape and compression, as BasicSR writes it."""
    info = path / "meta_info.txt"
    if not info.is_file():
        raise ValueError(f"{path} is an LMDB without meta_info.txt, which names its pictures in BasicSR's; unpack it")
    store, files = LmdbStore(path), []
    for line in info.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        name = line.split(" (")[0].strip()
        if not name:
            continue
        try:
            files.append((name, len(store.value(name))))
        except (OSError, KeyError) as error:
            raise ValueError(f"{path} is an LMDB that lacks what its meta_info.txt names: {error}") from error
    return store, files


def is_image(name: PurePosixPath) -> bool:
    """Whether a name has the suffix of a photograph."""
    return name.suffix.lower() in image_suffixes()


def is_hidden(name: PurePosixPath) -> bool:
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
            if not is_hidden(name):
                yield str(name), _size_bytes(path) if is_image(name) else NOT_READABLE


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
    except ZIP_ERRORS as error:
        raise ValueError(f"{path} is a damaged zip ({error}); copy or make it again") from error
    end, names = 0, set()
    for member in sorted(members, key=lambda entry: entry.header_offset):
        _check_member(path, member)
        if member.filename in names:
            raise ValueError(f"{path} holds two members named {member.filename!r}; make the zip again")
        if member.header_offset < end:
            raise ValueError(f"members of {path} overlap at {member.filename!r}; make the zip again")
        names.add(member.filename)
        end = member.header_offset + member.compress_size
        if not member.filename.endswith("/") and not is_hidden(PurePosixPath(member.filename)):
            yield member.filename, member.file_size
    if end > path.stat().st_size:
        raise ValueError(f"{path} is truncated: its directory names more bytes than it has; copy it again")


def _is_image_member(member: zipfile.ZipInfo) -> bool:
    """Whether a member is an image; `ZipInfo.is_dir` fails on an empty name."""
    name = PurePosixPath(member.filename)
    return not member.filename.endswith("/") and is_image(name) and not is_hidden(name)


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
