"""Files of `torch.save` that carry a checksum of themselves, which survives every copy."""

import hashlib
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch

SEAL = b"sha256:"
SEAL_BYTES = len(SEAL) + 64
"""The seal is the comment that a zip archive may end with; its length stands in the two bytes before it."""
CHUNK_BYTES = 2**20


def write_sealed(content: dict[str, Any], path: Path) -> None:
    """Writes what `torch.load` reads, sealed with its SHA-256.

    Args:
        content: Tensors and plain values.
        path: File to write; not atomic by itself.

    Raises:
        OSError: The disk is full or the folder cannot be written to.
    """
    with path.open("wb+") as file:
        writer = _Hashing(file)
        try:
            torch.save(content, writer)  # type: ignore[arg-type]
        except RuntimeError:
            if writer.error is not None:  # torch knows no OSError
                raise writer.error from None
            raise
        file.seek(-2, 2)
        file.write(struct.pack("<H", SEAL_BYTES) + SEAL + writer.digest.hexdigest().encode())


def check_seal(path: Path) -> bool:
    """Compares a file with its seal.

    Returns:
        Whether the file has a seal; files of other programs have none.

    Raises:
        ValueError: The content is another than the sealed one.
    """
    num_bytes = path.stat().st_size - SEAL_BYTES - 2
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(max(num_bytes, 0))
        tail = file.read()
        if num_bytes < 0 or not tail.startswith(struct.pack("<H", SEAL_BYTES) + SEAL):
            return False
        file.seek(0)
        while num_bytes > 0:
            chunk = file.read(min(CHUNK_BYTES, num_bytes))
            digest.update(chunk)
            num_bytes -= len(chunk)
    digest.update(b"\0\0")  # the length of the comment before the seal was set
    if digest.hexdigest().encode() != tail[2 + len(SEAL) :]:
        raise ValueError(f"{path} is damaged: its content does not have the checksum it was written with")
    return True


class _Hashing:
    """What `torch.save` writes to: a file, and the checksum of what went into it."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            number = self._put(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        return number

    def _put(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
