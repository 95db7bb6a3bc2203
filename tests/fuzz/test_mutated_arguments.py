"""The search for tracebacks sees them, changes command lines repeatably, and knows every command."""

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import mutated_arguments
from tests.fuzz.argument_inputs import ROOT, all_commands, words_of
from tests.fuzz.confinement import can_confine
from tests.fuzz.forked_commands import Outcome, in_fork
from tests.fuzz.mutated_arguments import Slice, Tally, filled, mutated, problems_of, try_command


@pytest.mark.parametrize(
    ("code", "output", "problem"),
    [
        (0, b"done\n", ""),
        (2, b"error: --faces must be an existing folder, got x\n", ""),
        (None, b"at work\n", ""),
        (1, b"Traceback (most recent call last):\n  File\nKeyError: 'a'\n", "a traceback"),
        (139, b"", "exit code 139"),
        (0, b"\x1b[31mred\n", "output that a terminal would obey"),
        (0, b"\xff\n", "output that a terminal would obey"),
        (2, b"", "0 lines that say why"),
        (2, b"error: it must be one line, not two\nerror: it must be one line, not two\n", "2 lines that say why"),
    ],
)
def test_a_problem_is_told_from_a_command_that_did_or_refused_what_it_was_asked(
    code: int | None, output: bytes, problem: str
) -> None:
    found = problems_of(Outcome(code, output, 0.0))
    assert (found == []) if not problem else (len(found) == 1 and found[0].startswith(problem))


def test_changes_follow_from_the_seed_and_most_command_lines_are_changed() -> None:
    words = words_of("scripts.evaluate")
    tried = [mutated(words, ["--seed"], random.Random(seed)) for seed in range(50)]
    assert tried == [mutated(words, ["--seed"], random.Random(seed)) for seed in range(50)]
    assert sum(changed != words for changed in tried) > 40 and len(set(map(tuple, tried))) > 40
    assert filled(["{out}/a", "--x", "b"], {"out": "c"}) == ["c/a", "--x", "b"]


def test_new_commands_are_tried_too_and_none_that_is_gone() -> None:
    scripts = {f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"}
    assert set(all_commands()) == scripts | {"train", "export"}
    assert words_of("scripts.check_faces")[0] == "{faces}"


def test_a_forked_command_that_works_for_ever_is_ended_and_one_that_fails_is_seen(tmp_path: Path) -> None:
    def work() -> None:
        while True:
            pass

    def fail() -> None:
        raise KeyError("missing")

    endless = in_fork(work, tmp_path, tmp_path / "log", 1)
    assert endless.code is None and problems_of(endless) == []
    failed = in_fork(fail, tmp_path, tmp_path / "log", 20)
    assert failed.code == 1 and problems_of(failed) == ["a traceback"]


@pytest.mark.skipif(not can_confine(), reason="the kernel has no Landlock")
def test_a_forked_command_can_change_its_folder_and_nothing_outside_of_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "kept"
    inside.mkdir()
    outside.write_text("kept")
    (inside / "moved").write_text("moved")
    changes: list[Callable[[], object]] = [
        lambda: outside.write_text("lost"),
        outside.unlink,
        lambda: outside.rename(inside / "taken"),
        lambda: (inside / "moved").rename(tmp_path / "moved"),
        (tmp_path / "made").mkdir,
        lambda: subprocess.run([sys.executable, "-c", f"open({str(outside)!r}, 'w')"], check=True),
    ]
    for change in changes:
        ended = in_fork(change, inside, inside / "log", 20, inside)
        assert ended.code == 1 and b"Permission denied" in ended.output
    assert in_fork(lambda: (inside / "moved").rename(inside / "new"), inside, inside / "log", 20, inside).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "kept"] and outside.read_text() == "kept"


def test_a_slice_of_the_mutations_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []
    monkeypatch.setattr(mutated_arguments, "import_what_it_needs", lambda *_: None)
    monkeypatch.setattr(mutated_arguments, "call", lambda module, words: tried.append(words))
    monkeypatch.setattr(mutated_arguments, "in_fork", lambda action, *_: action() or Outcome(0, b"", 0.0))

    def carry_out(first: int, deadline: float = math.inf) -> Tally:
        tried.clear()
        wanted = Slice(first, 20, 1.0, deadline)
        return try_command("scripts.check_faces", {"faces": "faces"}, tmp_path, wanted, random.Random(0))

    assert carry_out(0).tried == 21
    whole = list(tried)
    assert carry_out(12).tried == 9 and tried == whole[12:]
    assert carry_out(12, deadline=0.0).tried == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_confine(), reason="the kernel has no Landlock")
def test_wrong_command_lines_of_some_commands_end_in_one_line() -> None:
    """In a process of its own: one in which autograd has started threads cannot be forked to train."""
    commands = ("scripts.check_faces", "scripts.describe_checkpoint", "scripts.verify_run")
    words = ["--mutations", "20", "--seed", "1", "--seconds", "5"]
    command = [sys.executable, "-m", "tests.fuzz.mutated_arguments", *commands, *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
