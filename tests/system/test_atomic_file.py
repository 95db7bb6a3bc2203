"""What is replaced can be put back until the new one stands; errors of a full disk name file and remedy."""

import errno
from pathlib import Path

import pytest

from system.atomic_file import ASIDE_PREFIX, replacing, replacing_outputs
from system.command_line import one_line


def test_outputs_that_are_replaced_are_back_after_an_error_and_gone_after_success(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("old")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(KeyError), replacing_outputs(tmp_path, ("old", "absent")):
        (tmp_path / "old").write_text("half")
        raise KeyError
    assert (tmp_path / "old" / "file").read_text() == "old" and not list(tmp_path.glob(f"{ASIDE_PREFIX}*"))
    with replacing_outputs(tmp_path, ("old",)):
        (tmp_path / "old").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "old"]
    assert (tmp_path / "old").read_text() == "new"


def test_an_error_of_a_full_disk_names_the_target_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, replacing(tmp_path / "page.html"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert one_line(error.value) == (
        f"{tmp_path}/page.html: no space left on device; make room, or write to another disk, and repeat the command"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_a_terminal_would_obey_is_escaped_in_errors() -> None:
    assert one_line(ValueError("no face \x1b[31m\x9b\u202ered.png\n\x00")) == r"no face \x1b[31m\x9b\u202ered.png \x00"
    assert one_line(ValueError("name \udcff")) == r"name \udcff"
    assert one_line(ValueError("Gesichter/größer.png")) == "Gesichter/größer.png"
