"""What names of files may do to a terminal and to what is printed: nothing."""

import io
import os
import sys

import pytest

from system import command_line
from system.wording import printable_line


def test_a_printed_name_is_escaped_and_keeps_its_other_characters(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.print_names("é [bold]\x1b[31m\u202e\nb", "second line")
    assert capsys.readouterr().out == "é [bold]\\x1b[31m\\u202e\\nb\nsecond line\n"
    assert printable_line("a\nb\tc\x07") == "a\\nb\\tc\\x07"


def test_a_name_that_is_no_utf8_ends_no_command_that_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    with pytest.raises(SystemExit) as ended:
        command_line.conclude(lambda: print(os.fsdecode(b"face_\xff")))
    sys.stdout.flush()
    assert ended.value.code == 0 and written.getvalue() == b"face_\\udcff\n"
