"""A sealed file is read by torch and every zip program, and any other bit in it is noticed."""

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from models.files.run_folder import SEAL_BYTES, check_seal, write_sealed


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A file with a few tensors and plain values."""
    path = tmp_path / "sealed.ckpt"
    write_sealed({"weights": {"a": torch.arange(1000.0), "b": torch.ones(3)}, "images_seen": 8}, path)
    return path


def test_torch_and_zip_programs_read_a_sealed_file(sealed: Path) -> None:
    content = torch.load(sealed, weights_only=True)
    assert torch.equal(content["weights"]["a"], torch.arange(1000.0)) and content["images_seen"] == 8
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"sha256:")


def test_a_copy_keeps_its_seal(sealed: Path, tmp_path: Path) -> None:
    assert check_seal(Path(shutil.copyfile(sealed, tmp_path / "copy.ckpt")))


def test_any_flipped_bit_is_noticed(sealed: Path) -> None:
    content = sealed.read_bytes()
    length_and_mark = range(len(content) - SEAL_BYTES - 2, len(content) - 64)  # without these there is no seal
    for position in [*range(0, len(content), 97), len(content) - SEAL_BYTES - 3, len(content) - 64, len(content) - 1]:
        changed = bytearray(content)
        changed[position] ^= 16
        sealed.write_bytes(changed)
        if position in length_and_mark:
            assert not check_seal(sealed)
        else:
            with pytest.raises(ValueError, match=r"sealed\.ckpt is damaged: its content does not have the checksum"):
                check_seal(sealed)


@pytest.mark.parametrize("kept", [0, 1, 50, 0.5, -1])
def test_a_file_that_was_cut_off_has_no_seal(sealed: Path, kept: float) -> None:
    content = sealed.read_bytes()
    sealed.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    assert not check_seal(sealed)


def test_files_of_other_programs_have_no_seal(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "plain.pth")
    assert not check_seal(tmp_path / "plain.pth")


def test_an_error_of_the_disk_stays_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("models.files.run_folder._Hashing._put", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_sealed({"a": torch.zeros(3)}, tmp_path / "file.ckpt")
