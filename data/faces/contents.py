"""What a set of photographs shows, told by bytes of its files: names and sizes stay when pixels are replaced."""

import hashlib
import os
import struct
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from data.faces.files import FaceFiles

BLOCK_BYTES = 4096
NUM_THREADS = 8
"""Files looked at side by side, as each look may wait for a server."""


def contents_fingerprint(faces: FaceFiles) -> str:
    """Identifies photographs by their names and by the first, middle and last 4 KiB of each file.

    Compressed files differ at their end whatever pixel differs (a PNG ends with a checksum of all); of uncompressed
    ones a change between the three places is not seen. Costs three reads a file: 70,000 faces take seconds from a local
    disk, and minutes from a slow server, which is why a run looks again only where `times_fingerprint` differs.

    Args:
        faces: The photographs.

    Returns:
        SHA-256 as 64 hexadecimal digits; equal for a folder and a stored zip of it.
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
            told = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        except OSError:
            told = "gone"
        digest.update(f"{path}\0{told}\n".encode("utf-8", "surrogateescape"))
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
