"""Two commands cannot train in one folder; a lock does not outlive the process that took it."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from train.run.record import LOCK_NAME, only_command

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
from train.run.record import only_command
with only_command(Path(sys.argv[1])):
    worker = os.fork()  # as workers of the data loader are
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that is inside for the folder `run`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_second_command_is_refused_until_the_first_is_killed_although_its_workers_live_on(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    with (
        pytest.raises(BlockingIOError, match=r"only one command at a time may train in .*run, and another one does"),
        only_command(tmp_path / "run"),
    ):
        pass
    with only_command(tmp_path / "other"):
        pass
    holder.kill()
    holder.wait()
    os.kill(worker, 0)  # raises if it is gone
    with only_command(tmp_path / "run"):
        os.kill(worker, signal.SIGKILL)


def test_after_an_error_inside_the_folder_is_free(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the run"), only_command(tmp_path):
        raise ValueError("of the run")
    with only_command(tmp_path):
        pass


def test_the_command_ends_in_one_line_and_leaves_the_other_run_alone(fail: Callable[..., str], tmp_path: Path) -> None:
    with (tmp_path / LOCK_NAME).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = fail("prior", tmp_path, "--run.overwrite", "true")
    assert f"only one command at a time may train in {tmp_path}" in message and "--run.folder" in message
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
