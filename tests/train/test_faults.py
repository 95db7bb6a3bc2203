"""Faults: damaged checkpoints, a full or read-only disk, dead workers, lost processes, notices of schedulers."""

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import train.run.checkpoints as run_checkpoints
from models.files.run_folder import check_seal

Train = Callable[..., None]
Launch = Callable[..., Any]
RHYTHM = ["--run.checkpoint_every_images", 8, "--run.keep_checkpoints", 99]


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("images_*.ckpt"))


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut off": cut,
    "empty": lambda path: path.write_bytes(b""),
    "bit in the middle": lambda path: flip_bit(path, path.stat().st_size // 2),
    "bit in the checksum": lambda path: flip_bit(path, path.stat().st_size - 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    damage: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("prior", tmp_path, "--run.total_images", 16, *RHYTHM)
    DAMAGES[damage](checkpoints(tmp_path)[-1])
    capsys.readouterr()
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    output = capsys.readouterr().out
    assert re.search(r"images_000000000016\.ckpt is damaged: .*; taking images_000000000008\.ckpt instead", output)
    assert "24 of 24 images" in output
    assert [check_seal(path) for path in checkpoints(tmp_path)] == [True, True, True]  # the damaged one was replaced


def test_a_run_whose_checkpoints_are_all_damaged_says_so_and_leaves_them(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 16, *RHYTHM)
    for path in checkpoints(tmp_path):
        cut(path)
    with pytest.raises(ValueError, match=r"all 2 checkpoints of .* are damaged .* put a copy back, or remove them"):
        train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_one_line_and_the_old_one_stays(
    number: int, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("prior", tmp_path, "--run.total_images", 8, *RHYTHM)
    (old,) = checkpoints(tmp_path)
    content = old.read_bytes()
    write = run_checkpoints.write_sealed

    def fail(content: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_checkpoints, "write_sealed", fail)
    with pytest.raises(OSError, match="the checkpoint after 16 images cannot be written") as error:
        train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert os.strerror(number) in str(error.value) and "\n" not in str(error.value)
    assert list((tmp_path / "checkpoints").iterdir()) == [old] and old.read_bytes() == content
    monkeypatch.setattr(run_checkpoints, "write_sealed", write)
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)  # there is room again
    assert len(checkpoints(tmp_path)) == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB, where the user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_ends_the_run_in_one_line(train: Train, small_disk: Path) -> None:
    folder = small_disk / "run"
    with pytest.raises(OSError, match=r"cannot be written to .*: No space left on device; earlier ones are untouched"):
        train("prior", folder, "--run.total_images", 400, *RHYTHM)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names and all(re.fullmatch(r"images_\d{12}\.ckpt", name) for name in names)  # no half file is left behind
    assert all(check_seal(path) for path in checkpoints(folder))


def test_what_a_kill_left_half_written_is_removed(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    half = tmp_path / "checkpoints" / ".images_000000000016.123.abcd.ckpt"
    half.write_bytes(b"half")
    train("prior", tmp_path, "--run.total_images", 16)
    assert not half.exists()


def wait_for(condition: Callable[[], bool], process: Any) -> None:
    end = time.monotonic() + 300
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"the run did not get so far: {process.communicate()}")
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().replace(b"\0", b"\n").decode()


def rows_of(folder: Path) -> int:
    table = folder / "train.csv"
    return table.read_text().count("\n") - 1 if table.is_file() else 0


def test_the_notice_of_a_scheduler_to_all_processes_ends_the_run_with_a_checkpoint_and_the_code_to_start_again(
    launch: Launch, tmp_path: Path
) -> None:
    process = launch("prior", tmp_path, "--run.total_images", 100_000, "--data.num_workers", 1)
    wait_for(lambda: rows_of(tmp_path) > 0, process)
    os.killpg(process.pid, signal.SIGUSR1)  # the workers of the loader as well, as SLURM does it
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 138 and errors.strip() == "", errors
    assert "the same command continues the run" in output
    (checkpoint,) = checkpoints(tmp_path)
    assert check_seal(checkpoint)


def test_a_killed_worker_of_the_loader_ends_the_run_at_once_with_a_reason(launch: Launch, tmp_path: Path) -> None:
    process = launch("prior", tmp_path, "--run.total_images", 100_000, "--data.num_workers", 1)
    wait_for(lambda: rows_of(tmp_path) > 0, process)
    (worker, *_) = [c for c in children_of(process.pid) if "train" in Path(f"/proc/{c}/cmdline").read_text()]
    start = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 138
    (line,) = errors.strip().splitlines()
    assert line.startswith("error: a worker of the data loader died while reading ")
    assert "killed by signal: Killed" in line and "the same command continues" in line
    assert time.monotonic() - start < 60 or os.environ.get("CI")


@pytest.mark.slow
def test_a_stopped_worker_ends_the_run_when_nothing_arrives_for_the_stated_time(launch: Launch, tmp_path: Path) -> None:
    process = launch("prior", tmp_path, "--run.total_images", 100_000, "--data.num_workers", 1)
    wait_for(lambda: rows_of(tmp_path) > 0, process)
    (worker, *_) = [c for c in children_of(process.pid) if "train" in Path(f"/proc/{c}/cmdline").read_text()]
    os.kill(worker, signal.SIGSTOP)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 138
    assert "no photographs arrived for 50 seconds while reading " in errors and errors.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_killed_process_of_two_ends_the_run_with_a_reason(launch: Launch, tmp_path: Path, victim: str) -> None:
    division = ["--model.init_args.computation.minibatch_group_size", 2, "--trainer.devices", 2]
    process = launch("prior", tmp_path, "--run.total_images", 100_000, *division)
    wait_for(lambda: rows_of(tmp_path) > 0, process)
    (second,) = [c for c in children_of(process.pid) if "LOCAL_RANK=1" in environment_of(c)]
    os.kill(process.pid if victim == "first" else second, signal.SIGKILL)
    _, errors = process.communicate(timeout=900)  # until both have closed their output
    if victim == "second":
        assert process.returncode == 138
        assert "error: process 1 of the run was killed by SIGKILL" in errors
    else:
        assert "error: process 0 of the run was lost (its connection closed)" in errors
        assert not Path(f"/proc/{second}/cmdline").is_file() or not Path(f"/proc/{second}/cmdline").read_bytes()
