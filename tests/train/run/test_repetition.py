"""A repetition of a run fails by its exit code alone, and names the cause."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from system.child_processes import Children
from train.run.repetition import repeat

CONFIG: dict[str, Any] = {
    "model": {"init_args": {"computation": {"seed": 0, "num_parts": 1}}},
    "data": {"run": {"seed": 0, "total_images": 8, "folder": "runs/a"}},
    "run": {"folder": "runs/a", "total_images": 8},
}
WARNING = "UserWarning: the system suggests at most 1 worker\n  warnings.warn("


@pytest.mark.parametrize(
    ("printed", "code", "problem"),
    [
        (WARNING, 0, ""),
        (f"error: the disk is full\n{WARNING}", 2, "the disk is full (exit code 2)"),
        ("Traceback\nRuntimeError: something", 1, "RuntimeError: something (exit code 1)"),
        ("", -9, "it said nothing (exit code -9)"),
    ],
)
def test_a_warning_is_no_failure_and_a_failure_is_told_by_its_cause(
    printed: str, code: int, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(self: Children, arguments: Sequence[str], environment: Any, output: int, errors: IO[bytes]) -> int:
        assert arguments[:4] == ["-m", "train", "fit", "--config"] and environment["OMP_NUM_THREADS"] == "3"
        errors.write(printed.encode())
        return code

    monkeypatch.setattr(Children, "run", run)
    assert repeat(CONFIG, tmp_path / "run", 4, 3) == problem
