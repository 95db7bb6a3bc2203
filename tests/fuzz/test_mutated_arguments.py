"""The search for tracebacks sees them, changes command lines repeatably, and knows every command."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.argument_inputs import ROOT, all_commands, words_of
from tests.fuzz.forked_commands import Outcome, in_fork
from tests.fuzz.mutated_arguments import filled, mutated, problems_of


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


@pytest.mark.slow
def test_wrong_command_lines_of_some_commands_end_in_one_line() -> None:
    """In a process of its own: one in which autograd has started threads cannot be forked to train."""
    commands = ("scripts.check_faces", "scripts.describe_checkpoint", "scripts.verify_run")
    words = ["--mutations", "20", "--seed", "1", "--seconds", "5"]
    command = [sys.executable, "-m", "tests.fuzz.mutated_arguments", *commands, *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
