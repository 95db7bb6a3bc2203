"""Runs of both stages that are killed at random moments end as if nobody had killed them; what kills them, too."""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.fuzz.forked_commands import MARK, processes_with
from tests.test_documents import lines_to_run
from train.run.settings import SOAKED_BATCH
from train.run.soak import STAGES, compare_stage, draw_faces

ROOT = Path(__file__).resolve().parents[2]
REPEATED = 60 * SOAKED_BATCH
"""Images: enough for a repetition to be at work when it is stopped."""


def test_the_comparison_of_a_soak_sees_a_picture_that_differs(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        draw_faces(tmp_path / name / "samples")
    assert compare_stage("prior", tmp_path / "whole", tmp_path / "killed", 8) == (["40 pictures"], [])
    (tmp_path / "killed" / "samples" / "07.png").write_bytes(b"other")
    assert compare_stage("prior", tmp_path / "whole", tmp_path / "killed", 8)[1] == ["07.png"]


@pytest.mark.slow
def test_four_kills_change_no_bit_of_either_stage(tmp_path: Path) -> None:
    (line,) = lines_to_run("scripts.soak_run")
    words = [str(tmp_path / "soak") if word == "FOLDER" else word for word in line.words[1:]]
    command = [sys.executable, *words, "--kills", "2", "--images-between", "48"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("prior", "restoration"):
        assert f"{stage}: 2 kills" in done.stdout
    assert done.stdout.count("equal bit for bit") == 2


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can be repeated."""
    folder = tmp_path_factory.mktemp("finished")
    draw_faces(folder / "faces")
    run = {"folder": str(folder / "run"), "total_images": REPEATED, "log_every_images": REPEATED, "wandb": "off"}
    trainer = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
    data = {"faces": str(folder / "faces"), "batch_size": SOAKED_BATCH, "num_workers": 2}
    config = {"trainer": trainer, "model": STAGES["prior"], "data": data, "run": run}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "train", "fit", "--config", str(folder / "config.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGTERM, 0), (signal.SIGINT, 3), (signal.SIGHUP, 6), (signal.SIGKILL, 9)]
)
@pytest.mark.parametrize("command", ["soak_run", "verify_run"])
def test_a_command_that_is_stopped_leaves_no_training_behind(
    command: str, number: signal.Signals, seconds: int, tmp_path: Path, finished_run: Path
) -> None:
    words = ["--output", str(tmp_path / "soak")] if command == "soak_run" else [str(finished_run)]
    mark = secrets.token_hex(16)

    def hear_the_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored in tests under nohup

    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, MARK: mark}
        starting = [sys.executable, "-m", f"scripts.{command}", *words]
        process = subprocess.Popen(
            starting, cwd=ROOT, stdout=log, stderr=log, env=environment, preexec_fn=hear_the_terminal
        )
        deadline = time.monotonic() + 240
        while len(processes_with(mark)) < 2:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        time.sleep(seconds)  # while it starts, or with its workers at work
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.send_signal(number)
        assert process.wait(120) == (-number if number == signal.SIGKILL else 128 + number)
    while processes_with(mark):
        assert time.monotonic() < deadline + 60, processes_with(mark)
        time.sleep(0.1)
    assert "Traceback" not in (tmp_path / "log").read_text()
