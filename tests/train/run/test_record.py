"""A folder holds one run: its record is written once and compared when the run continues."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from models.files.run_folder import write_sealed
from system.machine import Precision
from train.command import resolve
from train.run.beginning import Start, begin_or_continue, check_inputs
from train.run.record import default_settings, describe_session, find_difference, flat_settings, settle_precision

CONFIG: dict[str, Any] = {
    "trainer": {"devices": 1, "precision": None},
    "model": {"class_path": "a.B", "init_args": {"architecture": {"resolution": 64}, "betas": [0.0, 0.99]}},
    "data": {"faces": "/a", "batch_size": 4, "num_workers": 0, "run": {"total_images": 100}},
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
    begin_or_continue(tmp_path, CONFIG, DATA)
    (tmp_path / "checkpoints").mkdir()
    write_sealed({"images_seen": 8}, tmp_path / "checkpoints" / "images_000000000008.ckpt")
    return tmp_path


def test_a_new_run_records_configuration_data_versions_and_command(folder: Path) -> None:
    assert yaml.safe_load((folder / "config.yaml").read_text()) == CONFIG
    record = json.loads((folder / "run.json").read_text())
    assert record["data"] == DATA
    (session,) = record["sessions"]
    assert session["versions"]["torch"].split("+")[0].count(".") == 2
    assert session["command"][0].startswith("python") and session["git_commit"]
    assert session["git_dirty"] in (True, False, None) and session["seed"] == 0 and session["images_seen"] == 0
    assert session["num_processes"] == 1 and session["num_threads"] >= 1 and session["precision"] == "32-true"


def test_the_same_configuration_continues_and_the_record_tells_of_both_sessions(folder: Path) -> None:
    before = (folder / "config.yaml").read_bytes()
    start = begin_or_continue(folder, deepcopy(CONFIG), DATA, num_processes=2)
    assert start == Start(folder / "checkpoints" / "images_000000000008.ckpt", False)
    assert (folder / "config.yaml").read_bytes() == before
    first, second = json.loads((folder / "run.json").read_text())["sessions"]
    assert (first["images_seen"], first["num_processes"]) == (0, 1)
    assert (second["images_seen"], second["num_processes"]) == (8, 2)


def test_other_processes_than_the_first_decide_the_same_and_write_nothing(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    start = begin_or_continue(folder, CONFIG, DATA, is_first_process=False)
    assert start.images_seen == 8
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_complete_run_is_left_alone_without_overwrite_and_replaced_with_it(folder: Path) -> None:
    config = changed("run.total_images", 11)  # 8 + one batch of 4 is more
    assert begin_or_continue(folder, config, DATA).is_complete
    assert begin_or_continue(folder, config, DATA, overwrite=True) == Start(None, False)
    assert not (folder / "checkpoints").exists()
    assert len(json.loads((folder / "run.json").read_text())["sessions"]) == 1


def test_overwrite_replaces_other_settings_but_continues_a_run_that_can_be_continued(folder: Path) -> None:
    assert begin_or_continue(folder, CONFIG, DATA, overwrite=True).images_seen == 8
    other = changed("data.batch_size", 8)
    assert begin_or_continue(folder, other, DATA, overwrite=True) == Start(None, False)
    assert yaml.safe_load((folder / "config.yaml").read_text()) == other


def test_only_what_runs_write_is_replaced(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    begin_or_continue(folder, changed("run.seed", 1), DATA, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_files_of_those_names_but_no_run_is_not_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "config.yaml").write_text("something else")
    with pytest.raises(ValueError, match=r"holds config\.yaml but no run .* choose another --run\.folder"):
        begin_or_continue(tmp_path, CONFIG, DATA, overwrite)
    assert (tmp_path / "config.yaml").read_text() == "something else"


@pytest.mark.parametrize("inside", ["", "runs/a"])
def test_a_run_must_not_write_into_its_own_faces(tmp_path: Path, inside: str) -> None:
    with pytest.raises(ValueError, match="must not write into its own faces"):
        check_inputs(tmp_path / inside, changed("data.faces", str(tmp_path)), overwrite=True)


def test_overwrite_does_not_remove_what_the_run_starts_from(folder: Path) -> None:
    start = str(folder / "checkpoints" / "images_000000000008.ckpt")
    with pytest.raises(ValueError, match="which the run starts from"):
        check_inputs(folder, changed("model.init_args.start", start), overwrite=True)
    check_inputs(folder, changed("model.init_args.start", start), overwrite=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trainer.devices", 8),
        ("trainer.precision", "bf16-mixed"),
        ("data.num_workers", 4),
        ("run.max_minutes", 5),
        ("data.faces", "/moved"),
        ("run.total_images", 200),
        ("run.folder", "elsewhere"),
        ("run.wandb", "online"),
        ("run.wandb_group", "a study"),
        ("run.wandb_tags", ["variant", "seed_0"]),
        ("run.wandb_checkpoints", "all"),
    ],
)
def test_machine_options_and_the_end_of_the_run_may_change(folder: Path, name: str, value: Any) -> None:
    begin_or_continue(folder, changed(name, value), DATA)


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("model.init_args.architecture.resolution", 128, "64"),
        ("model.init_args.betas", [0.5, 0.99], "[0.0, 0.99]"),
        ("model.class_path", "a.C", "a.B"),
        ("data.batch_size", 8, "4"),
        ("data.background", "white", "None"),
        ("run.seed", 1, "0"),
        ("run.log_every_images", 16, "8"),
        ("run.new_option", 3, "None"),
    ],
)
def test_another_option_is_named_with_both_values_in_one_line(folder: Path, name: str, value: Any, was: str) -> None:
    with pytest.raises(ValueError) as error:
        begin_or_continue(folder, changed(name, value), DATA)
    assert f"{name} was {was}, now {value}; 1 differ in all" in str(error.value)
    assert "\n" not in str(error.value) and "--run.folder" in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fingerprint", "faces to train on: 20 as before, but others"),
        ("validation_fingerprint", "faces held out for validation: None as before, but others"),
    ],
)
def test_other_photographs_are_detected_although_their_path_is_the_same(folder: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"other settings \({words}\); put the former ones back"):
        begin_or_continue(folder, CONFIG, {**DATA, name: "0" * 64})


def test_the_same_photographs_elsewhere_are_accepted(folder: Path) -> None:
    begin_or_continue(folder, changed("data.faces", "/b"), {**DATA, "faces": "/b"})


def test_a_run_that_ended_before_its_first_checkpoint_may_begin_again_with_other_settings(tmp_path: Path) -> None:
    begin_or_continue(tmp_path, CONFIG, DATA)
    other = changed("data.batch_size", 8)
    begin_or_continue(tmp_path, other, DATA)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == other


def test_auto_keeps_the_precision_of_a_run_that_is_continued_and_else_follows_the_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest = Precision("bf16-mixed", "of this machine")
    monkeypatch.setattr("system.machine.fastest_precision", lambda on_gpu: fastest)
    assert settle_precision("auto", tmp_path / "new", False, False) == fastest
    assert settle_precision("auto", folder, False, False).name == "32-true"  # null in CONFIG
    assert settle_precision("auto", folder, True, False) == fastest  # what is there may be replaced
    begin_or_continue(folder, changed("trainer.precision", "bf16-mixed"), DATA)
    monkeypatch.setattr("system.machine.fastest_precision", lambda on_gpu: Precision("32-true", ""))
    assert settle_precision("auto", folder, False, False).name == "bf16-mixed"


def test_a_precision_that_changes_on_resume_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin_or_continue(folder, CONFIG, DATA)
    assert capsys.readouterr().out == ""
    begin_or_continue(folder, changed("trainer.precision", "bf16-mixed"), DATA)
    assert capsys.readouterr().out == "precision: 32-true up to now, bf16-mixed from image 8 on, as asked\n"


@pytest.mark.parametrize("asked", ["16-mixed", "fp16", 16, "64-true", "bf16-true"])
def test_precisions_that_training_does_not_have_are_refused(asked: str | int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.precision must be auto, 32-true or bf16-mixed, got"):
        settle_precision(asked, tmp_path, False, False)


PRIOR = "train.stages.prior.PriorTraining"


def test_an_option_that_is_newer_than_the_record_counts_as_it_was_by_default(tmp_path: Path) -> None:
    old = changed("model.class_path", PRIOR)
    begin_or_continue(tmp_path, old, DATA)
    optimization = {"take_discriminator": True, "schedule": {"warm_up_images": 0, "decay": None}}
    new = deepcopy(old)
    new["model"]["init_args"] |= {"start": None, "optimization": optimization}
    new["data"] |= {"names": [], "synthetic_share": None, "background": "black"}
    assert find_difference(tmp_path, new, DATA) is None
    optimization["schedule"]["warm_up_images"] = 8  # type: ignore[index]
    difference, _ = find_difference(tmp_path, new, DATA) or ("", "")
    assert difference == "model.init_args.optimization.schedule.warm_up_images was None, now 8; 1 differ in all"


@pytest.mark.parametrize("stage", ["prior.PriorTraining", "restoration.RestorationTraining"])
def test_defaults_are_those_that_the_command_line_resolves(stage: str) -> None:
    architecture = {"resolution": 64, "channel_multiplier": 1, "narrow": 0.5}
    words = [f"--model.init_args.architecture.{name}={value}" for name, value in architecture.items()]
    resolved = flat_settings(resolve([f"--model.class_path=train.stages.{stage}", *words, "--data.faces=/a"]))
    given = ("model.init_args.architecture.", "model.class_path", "data.faces", "trainer.")
    found = {name: value for name, value in resolved.items() if not name.startswith(given)}
    of_the_run = {"model.init_args.computation.seed": 0, "model.init_args.computation.num_parts": 1}
    groups = [default_settings(group, f"train.stages.{stage}") for group in ("model", "data", "run")]
    assert found | of_the_run == {name: value for group in groups for name, value in group.items()}


def test_the_first_session_keeps_what_led_to_a_release_file_that_may_be_replaced_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, name: str) -> NoReturn:
        raise AssertionError(f"{name} of {path} is read a second time")

    monkeypatch.setattr("models.files.release_file._read", refuse)
    release = Path(__file__).resolve().parents[3] / "weights" / "prior_64.safetensors"
    config = changed("model.init_args.start", str(release))
    history = json.loads(describe_session(0, config, 1)["start_history"])
    assert len(history) > 1 and all(step.startswith("Images seen: ") for step in history)
    assert describe_session(8, config, 1)["start_history"] is None
    assert describe_session(0, changed("model.init_args.start", "runs/a"), 1)["start_history"] is None
    cut_off = tmp_path / "cut_off.safetensors"
    cut_off.write_bytes(release.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut_off\.safetensors is a damaged release file"):
        describe_session(0, changed("model.init_args.start", str(cut_off)), 1)
