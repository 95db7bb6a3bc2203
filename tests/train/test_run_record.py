"""A folder holds one run: its record is written once and compared when the run continues."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.run_record import record_run

CONFIG: dict[str, Any] = {
    "trainer": {"devices": 1, "precision": None},
    "model": {"class_path": "a.B", "init_args": {"architecture": {"resolution": 64}, "betas": [0.0, 0.99]}},
    "data": {"faces": "/a", "batch_size": 4, "num_workers": 0, "total_images": 100},
    "run": {"folder": "runs/a", "seed": 0, "total_images": 100, "wandb": "off", "log_every_images": 8},
}
DATA = {"faces": "/a", "num_faces": "20", "fingerprint": "f" * 64, "validation_fingerprint": "e" * 64}


def changed(name: str, value: Any) -> dict[str, Any]:
    """The configuration with another value at a dotted name."""
    config = deepcopy(CONFIG)
    *parents, last = name.split(".")
    group = config
    for parent in parents:
        group = group[parent]
    group[last] = value
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a record and a checkpoint."""
    record_run(tmp_path, CONFIG, DATA)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "images_000000000008.ckpt").touch()
    return tmp_path


def test_a_new_run_records_configuration_data_versions_and_command(folder: Path) -> None:
    assert yaml.safe_load((folder / "config.yaml").read_text()) == CONFIG
    record = json.loads((folder / "run.json").read_text())
    assert record["data"] == DATA
    assert record["versions"]["torch"].split("+")[0].count(".") == 2
    assert record["command"][0].startswith("python") and record["git_commit"]


def test_the_same_configuration_continues_and_the_record_stays_as_it_was(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    record_run(folder, deepcopy(CONFIG), DATA)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trainer.devices", 8),
        ("trainer.precision", "bf16-mixed"),
        ("data.num_workers", 4),
        ("data.total_images", 200),
        ("data.faces", "/moved"),
        ("run.total_images", 200),
        ("run.folder", "elsewhere"),
        ("run.wandb", "online"),
    ],
)
def test_machine_options_and_the_end_of_the_run_may_change(folder: Path, name: str, value: Any) -> None:
    record_run(folder, changed(name, value), DATA)


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("model.init_args.architecture.resolution", 128, "64"),
        ("model.init_args.betas", [0.5, 0.99], "[0.0, 0.99]"),
        ("model.class_path", "a.C", "a.B"),
        ("data.batch_size", 8, "4"),
        ("run.seed", 1, "0"),
        ("run.log_every_images", 16, "8"),
        ("run.new_option", 3, "None"),
    ],
)
def test_another_option_is_named_with_both_values_in_one_line(folder: Path, name: str, value: Any, was: str) -> None:
    with pytest.raises(ValueError) as error:
        record_run(folder, changed(name, value), DATA)
    assert f"{name} was {was}, now {value}; 1 differ in all" in str(error.value)
    assert "\n" not in str(error.value) and "--run.folder" in str(error.value)


@pytest.mark.parametrize("name", ["fingerprint", "validation_fingerprint"])
def test_other_photographs_are_detected_although_their_path_is_the_same(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"\({name} was {DATA[name]}, now {'0' * 64}; 1 differ in all\)"):
        record_run(folder, CONFIG, {**DATA, name: "0" * 64})


def test_the_same_photographs_elsewhere_are_accepted(folder: Path) -> None:
    record_run(folder, changed("data.faces", "/b"), {**DATA, "faces": "/b"})


def test_a_run_that_ended_before_its_first_checkpoint_may_begin_again_with_other_settings(tmp_path: Path) -> None:
    record_run(tmp_path, CONFIG, DATA)
    other = changed("data.batch_size", 8)
    record_run(tmp_path, other, DATA)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == other
