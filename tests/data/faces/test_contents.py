"""Photographs are told by their contents, at the cost of three blocks a file."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data.faces.files import BLOCK_BYTES, contents_fingerprint, open_faces, times_fingerprint

SIZES = {"small.png": 100, "a/middle.jpg": 3 * BLOCK_BYTES + 1, "large.bmp": 200_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of random bytes."""
    random = np.random.default_rng(0)
    for name, size in SIZES.items():
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(size))
    return tmp_path / "faces"


def test_a_folder_and_a_stored_zip_of_it_have_one_fingerprint(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name in sorted(SIZES, reverse=True):
            archive.write(folder / name, name)
    assert contents_fingerprint(open_faces(tmp_path / "faces.zip")) == contents_fingerprint(open_faces(folder))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_other_byte_in_a_sampled_place_is_seen(folder: Path, name: str, place: str) -> None:
    before = contents_fingerprint(open_faces(folder))
    content = bytearray((folder / name).read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[place]] ^= 1
    (folder / name).write_bytes(content)
    assert contents_fingerprint(open_faces(folder)) != before


def test_what_cannot_be_read_counts_as_empty_and_stops_nothing(folder: Path) -> None:
    faces = open_faces(folder)
    before = contents_fingerprint(faces)
    (folder / "large.bmp").unlink()
    os.mkfifo(folder / "pipe.png")
    assert contents_fingerprint(faces) != before
    contents_fingerprint(open_faces(folder))


def test_times_change_with_every_write_although_size_and_time_of_modification_stay(folder: Path) -> None:
    before = times_fingerprint(open_faces(folder))
    assert times_fingerprint(open_faces(folder)) == before
    path = folder / "small.png"
    times = path.stat()
    path.write_bytes(bytes(SIZES["small.png"]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert times_fingerprint(open_faces(folder)) != before
