"""What `torch.save` and NVIDIA wrote, from anyone: nothing in it is executed, and it cannot take more memory than it
has bytes."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from models.files.pickle_reader import PickleReader, StandIn, storage_dtype
from models.files.stored_tensor import LARGEST_SIZE, Storage

ZIP_MAGIC_BYTES = b"PK\x03\x04"
LEGACY_MAGIC_BYTES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of what `torch.save` writes: a zip archive, before PyTorch 1.6 a pickled number."""
PICKLE_MAGIC_BYTES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of NVIDIA's files, which are pickles with the tensors inside."""
LARGEST_INDEX_BYTES = 32_000_000
"""Of the pickle in a zip archive, which only describes the tensors, and of the archive's directory."""
_NUM_LEGACY_PICKLES_BEFORE = 3  # magic number, protocol, system
EXPORTED = "is an exported model; name the checkpoint it was exported from"


@dataclass(frozen=True)
class PickledContent:
    """What a file holds."""

    values: Mapping[str | int, Any]
    """Plain values, `StoredTensor` for tensors and `StandIn` for other objects."""
    stand_ins: tuple[str, ...]
    """Classes of objects that were not made."""


def read_pickled(path: Path) -> PickledContent:
    """Reads a file that begins with one of the magic bytes; tensors stay in the file until they are read. Raises
    ValueError where it is damaged, or holds anything that could run code or something else than a mapping."""
    reader = PickleReader(_no_persistent, _legacy_storage)
    damage: Exception | None = None
    content = None
    try:
        with path.open("rb") as file:
            head = file.read(len(LEGACY_MAGIC_BYTES))
            file.seek(0)
            if head.startswith(ZIP_MAGIC_BYTES):
                content = _read_zip(path, file, reader)
            elif head == LEGACY_MAGIC_BYTES:
                content = _read_legacy(path, file, reader)
            else:
                content = reader.read(file)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged archives and pickles fail in a dozen ways
        damage = error
        if str(error) == EXPORTED:
            raise ValueError(f"{path} {EXPORTED}") from None
        if not reader.dangerous:
            raise ValueError(f"{path} is truncated, damaged or no checkpoint") from error
    if reader.dangerous:
        raise ValueError(
            f"{path} holds {', '.join(sorted(reader.dangerous)[:3])[:100]}, which could run code when it is loaded; "
            "nothing of it was run, and the file is refused; of a whole module store its state_dict() instead"
        ) from damage
    if not isinstance(content, dict):
        kind = content.name if isinstance(content, StandIn) else type(content).__name__.replace("Stored", "")
        raise ValueError(f"{path} holds a {kind}")
    return PickledContent(content, tuple(sorted(reader.stand_ins)))


def _read_zip(path: Path, file: IO[bytes], reader: PickleReader) -> Any:
    """The archive of PyTorch: one pickle and a record for each storage, all without compression."""
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        root = next(iter(members)).partition("/")[0]
        if f"{root}/constants.pkl" in members and any(name.startswith(f"{root}/code/") for name in members):
            raise ValueError(EXPORTED)
        if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members.values()):
            raise ValueError("PyTorch stores its records without compression")
        # PyTorch's own reader ignores case, so that two programs could read two pickles in one file.
        names = [name.lower() for name in members]
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if pickles != [f"{root}/data.pkl".lower()] or len(set(names)) < len(archive.infolist()):
            raise ValueError("it must hold one data.pkl, and every record once")
        (name,) = [name for name in members if name.lower() == pickles[0]]
        order = members.get(f"{root}/byteorder")
        if order is not None and archive.read(order) != b"little":
            raise ValueError("its numbers are stored from the highest byte on")
        if members[name].file_size > LARGEST_INDEX_BYTES:
            raise ValueError("its pickle is too long")

        def storage(dtype: Any, key: str, length: int) -> Storage:
            member = members[f"{root}/data/{key}"]
            if length * dtype.itemsize > member.file_size:
                raise ValueError("a storage is longer than its record")
            return _in_file(path, file, Storage(dtype, length), _begin(file, member))

        reader.persistent = lambda known: storage(*_described(known))
        return reader.read(io.BytesIO(archive.read(name)))


def _check_directory(file: IO[bytes]) -> None:
    """Refuses an archive whose directory alone would take gigabytes."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(max(size - 2**16 - 22, 0))
    end = file.read()
    place = end.rfind(b"PK\x05\x06")
    directory_bytes = int.from_bytes(end[place + 12 : place + 16], "little") if place >= 0 else 0
    if directory_bytes > LARGEST_INDEX_BYTES:
        raise ValueError("its directory is too long")
    file.seek(0)


def _begin(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the bytes of a record begin: its own header has a length of its own."""
    file.seek(member.header_offset)
    header = file.read(30)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.header_offset + len(header) + lengths


def _read_legacy(path: Path, file: IO[bytes], reader: PickleReader) -> Any:
    """A file from before PyTorch 1.6: five pickles, then the storages one after another."""
    content, positions = _legacy_pickles(file, reader)
    for storage, position in positions:
        _in_file(path, file, storage, position)
    return content


def _legacy_pickles(file: IO[bytes], reader: PickleReader) -> tuple[Any, list[tuple[Storage, int]]]:
    """The content and, for each storage, where its numbers begin."""
    storages: dict[str, Storage] = {}

    def persistent(known: Any) -> Storage:
        dtype, key, length = _described(known)
        return storages.setdefault(key, Storage(dtype, length))

    reader.persistent = persistent
    for _ in range(_NUM_LEGACY_PICKLES_BEFORE):
        reader.read(file)
    content, keys = reader.read(file), reader.read(file)
    positions = []
    if not isinstance(keys, list):
        raise ValueError("the keys of its storages are no list")
    for key in keys:
        length = int.from_bytes(file.read(8), "little")
        storage = storages[_text(key)]
        if length != storage.length:
            raise ValueError("a storage has another length than its tensors")
        positions.append((storage, file.tell()))
        file.seek(length * storage.dtype.itemsize, 1)
    return content, positions


def _legacy_storage(content: Any) -> Storage:
    """A storage that was pickled as the bytes of a file of its own, as plain pickles do."""
    if not isinstance(content, bytes):
        raise ValueError("a storage is no bytes")
    file = io.BytesIO(content)
    storage, positions = _legacy_pickles(file, PickleReader(_no_persistent, _no_persistent))
    ((known, position),) = positions
    if storage is not known or position + storage.length * storage.dtype.itemsize > len(content):
        raise ValueError("a storage is damaged")
    known.read_bytes = lambda start, length: bytearray(content[position + start : position + start + length])
    return known


def _in_file(path: Path, file: IO[bytes], storage: Storage, position: int) -> Storage:
    def read_bytes(start: int, length: int) -> bytearray:
        content = bytearray(length)
        with path.open("rb") as opened:
            opened.seek(position + start)
            if opened.readinto(content) < length:
                raise ValueError(f"{path} is truncated, damaged or no checkpoint")
        return content

    file.seek(0, 2)
    if position + storage.length * storage.dtype.itemsize > file.tell():
        raise ValueError("a storage reaches beyond the end of the file")
    storage.read_bytes = read_bytes
    return storage


def _described(known: Any) -> tuple[Any, str, int]:
    mark, kind, key, _, length = known[:5]
    if mark not in ("storage", b"storage") or (len(known) == 6 and known[5] is not None) or len(known) > 6:
        raise ValueError("a storage is described in an unknown way")
    if type(length) is not int or not 0 <= length < LARGEST_SIZE:
        raise ValueError("a storage has a senseless length")
    return storage_dtype(kind), _text(key), length


def _text(key: Any) -> str:
    if type(key) is not str:
        raise ValueError("the key of a storage is no text")
    return key


def _no_persistent(_: Any) -> Any:
    raise ValueError("it needs what no checkpoint needs")
