"""A repetition of a run fails by its exit code alone, and names the cause."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from models.files.run_folder import write_sealed
from system.child_processes import Children
from train.run.repetition import repeat, replay, verify

CONFIG: dict[str, Any] = {
    "model": {"init_args": {"computation": {"seed": 0, "num_parts": 1}}},
    "data": {"run": {"seed": 0, "total_images": 8, "folder": "runs/a"}},
    "run": {"folder": "runs/a", "total_images": 8},
}
WARNING = "UserWarning: the system suggests at most 1 worker\n  warnings.warn("


@pytest.mark.parametrize(
    "content", ["run: {}", "run: {log_every_images: 4, total_images: 8}\ndata: {batch_size: four}", "nothing"]
)
def test_a_configuration_that_is_none_of_a_run_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/config.yaml is damaged: it is no configuration of a run \("):
        verify(tmp_path)


def test_a_damaged_checkpoint_is_told_before_the_run_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "run: {log_every_images: 4, total_images: 8, convolutions: whole}\ndata: {batch_size: 4}"
    )
    session = {"num_processes": 1, "num_threads": 1, "precision": "32-true"}
    (tmp_path / "run.json").write_text(json.dumps({"data": {}, "sessions": [session]}))
    path = tmp_path / "checkpoints" / "images_000000000004.ckpt"
    path.parent.mkdir()
    write_sealed({"images_seen": 4, "state_dict": {}}, path)
    path.write_bytes(path.read_bytes().replace(b"images_seen", b"images_seem"))
    with pytest.raises(ValueError, match=f"^{path} is damaged: its content does not have the checksum"):
        verify(tmp_path)


@pytest.mark.parametrize("content", ["nonsense", "{}", '{"first": "x", "before": null}', '{"first": 4, "before": 5}'])
def test_a_damaged_report_of_a_skipped_update_is_named(tmp_path: Path, content: str) -> None:
    dump = tmp_path / "run" / "non_finite" / "images_000000000004"
    with pytest.raises(FileNotFoundError, match=r"name a folder in non_finite/ of a run$"):
        replay(dump)
    dump.mkdir(parents=True)
    (dump / "report.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{dump / 'report.json'} is damaged \(.+\); take another dump of the run$"):
        replay(dump)


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
    def start(self: Children, arguments: Sequence[str], environment: Any, output: int, errors: IO[bytes]) -> None:
        assert arguments[:4] == ["-m", "train", "fit", "--config"] and environment["OMP_NUM_THREADS"] == "3"
        errors.write(printed.encode())

    monkeypatch.setattr(Children, "start", start)
    monkeypatch.setattr(Children, "finish", lambda self, child: code)
    assert repeat(CONFIG, tmp_path / "run", 4, 3) == problem
