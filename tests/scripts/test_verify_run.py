"""A run is repeated and compared bit for bit; what differs is named together with what changed since."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scripts import verify_run
from train.run.repetition import changes, compare_runs

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


def write_folder(folder: Path, loss: str = "0.5", weight: float = 1.0, speed: str = "10") -> Path:
    """A folder with a table of two rows and a checkpoint after 16 images."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "train.csv").write_text(
        f"images_seen,generator/l1,speed/images_per_second\n8,{loss},{speed}\n16,0.25,{speed}\n24,0.1,{speed}\n"
    )
    content = {"state_dict": {"w": torch.tensor([weight, 2.0])}, "optimizer_states": [{"step": 3}], "images_seen": 16}
    torch.save(content, folder / "checkpoints" / "images_000000000016.ckpt")
    return folder


def test_equal_runs_differ_nowhere_whatever_their_speed(tmp_path: Path) -> None:
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other", speed="99")
    assert compare_runs(one, other, 16) == (["2 rows of train.csv", "images_000000000016.ckpt"], [])


def test_a_loss_and_a_weight_that_differ_are_named(tmp_path: Path) -> None:
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other", loss="0.500001", weight=1.0000001)
    _, different = compare_runs(one, other, 16)
    assert different == [
        "train.csv at image 8: generator/l1 0.5 was, 0.500001 now",
        "images_000000000016.ckpt: state_dict.w",
    ]


def test_a_row_that_one_run_does_not_have_is_a_difference(tmp_path: Path) -> None:
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other")
    table = other / "train.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("16,")) + "\n")
    assert compare_runs(one, other, 16)[1] == ["train.csv at image 16: generator/l1 0.25 was, None now"]


def test_what_is_not_as_it_was_is_told_with_both_values() -> None:
    def record(torch_version: str, threads: int, fingerprint: str) -> dict[str, Any]:
        session = {"command": [], "num_threads": threads, "versions": {"torch": torch_version}, "machine": {"gpus": []}}
        return {"sessions": [session], "data": {"fingerprint": fingerprint}}

    assert changes(record("2.0", 1, "a"), record("2.0", 1, "a")) == []
    assert changes(record("2.0", 1, "a"), record("2.1", 4, "b")) == [
        "session.num_threads: 1 was, 4 now",
        "session.versions.torch: 2.0 was, 2.1 now",
        "data.fingerprint: a was, b now",
    ]


def test_a_folder_without_a_run_and_images_out_of_range_are_refused(run: Run, tmp_path: Path) -> None:
    code, _, errors = run(verify_run.main, tmp_path)
    assert code == 2 and "holds no run: there is no config.yaml" in errors
    (tmp_path / "config.yaml").write_text("data: {batch_size: 4}\nrun: {log_every_images: 8, total_images: 24}\n")
    session = {"num_processes": 1, "num_threads": 1, "precision": "32-true"}
    (tmp_path / "run.json").write_text(json.dumps({"data": {}, "sessions": [session]}))
    code, _, errors = run(verify_run.main, tmp_path, "--images", 100)
    assert code == 2 and "--images must lie between one batch of 4 and the 24 of the run, got 100" in errors


@pytest.mark.slow
def test_a_real_run_is_repeated_and_a_changed_loss_is_found(run: Run, faces_folder: Path, tmp_path: Path) -> None:
    architecture = {"resolution": 32, "channel_multiplier": 1, "narrow": 0.0625, "style_dim": 32}
    config = {
        "trainer": {"accelerator": "cpu", "devices": 1},
        "model": {
            "class_path": "train.stages.prior.PriorTraining",
            "init_args": {"architecture": architecture, "fid_num_images": 0},
        },
        "data": {"faces": str(faces_folder), "batch_size": 4, "num_workers": 1},
        "run": {"folder": str(tmp_path / "run"), "total_images": 16, "log_every_images": 8, "wandb": "off"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "train", "fit", "--config", str(path)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    code, output, errors = run(verify_run.main, tmp_path / "run", "--images", 16)
    assert code == 0, errors
    assert "2 rows of train.csv, images_000000000016.ckpt" in output and "equal bit for bit" in output
    table = tmp_path / "run" / "train.csv"
    header, first, second = table.read_text().splitlines()
    values = first.split(",")
    values[1] = f"{float(values[1]) * 1.001:.6g}"
    table.write_text("\n".join([header, ",".join(values), second]) + "\n")
    code, output, _ = run(verify_run.main, tmp_path / "run", "--images", 8)
    assert code == 1 and "train.csv at image 8" in output and "nothing that is recorded" in output
