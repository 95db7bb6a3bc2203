"""A wrong option, file or folder is one line on stderr and exit code 2; help describes every option."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models import GPEN, Architecture, Prior, save_release
from train.command import fit, main
from train.options import TrainerOptions
from train.run.settings import FaceSettings, RunSettings
from train.stages.prior import PriorOptimization
from train.stages.restoration import RestorationOptimization
from train.stages.restoration_losses import PerceptualNetworks, RestorationLossWeights
from train.stages.stage import Computation
from train.updates.adversarial import Regularization
from train.updates.optimization import MovingAverage

ROOT = Path(__file__).resolve().parents[2]
Arguments = Callable[..., list[str]]
Fail = Callable[..., str]


def test_an_unknown_option_is_named(fail: Fail, tmp_path: Path) -> None:
    assert "--run.totl_images" in fail("prior", tmp_path, "--run.totl_images", 8)


def test_an_unknown_key_in_a_yaml_file_is_named(fail: Fail, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model:\n  init_args:\n    regularization:\n      r2_weight: 1.0\n")
    assert "r2_weight" in fail("prior", tmp_path, "--config", overlay)


def test_an_unknown_top_level_key_in_a_yaml_file_is_named(fail: Fail, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("runs:\n  seed: 1\n")
    assert "runs" in fail("prior", tmp_path, "--config", overlay)


def test_a_file_that_is_no_yaml_is_refused(fail: Fail, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("run: {seed: [1\n")
    assert fail("prior", tmp_path, "--config", overlay)


def test_a_missing_config_is_named(fail: Fail, tmp_path: Path) -> None:
    assert "nowhere.yaml" in fail("prior", tmp_path, "--config", tmp_path / "nowhere.yaml")


def test_a_config_that_holds_no_settings_or_is_a_folder_is_named(fail: Fail, tmp_path: Path) -> None:
    for content, kind in (("", "nothing"), ("- 1\n", "a list"), ("text", "a str")):
        (tmp_path / "strange.yaml").write_text(content)
        message = fail("prior", tmp_path / "run", "--config", tmp_path / "strange.yaml")
        assert message == f"a config must hold keys and values as configs/ does, {tmp_path}/strange.yaml holds {kind}"
    message = fail("prior", tmp_path / "run", "--config", tmp_path)
    assert message == f"there is no config file {tmp_path}, which is a folder; name a file in it"


@pytest.mark.parametrize(
    ("words", "problem"),
    [([], "model.class_path must be "), (["--config"], "--config must be followed by a file, got none")],
)
def test_a_command_without_a_config_says_so(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        fit(words)


def test_a_value_of_the_wrong_type_names_option_and_value(fail: Fail, tmp_path: Path) -> None:
    message = fail("prior", tmp_path, "--run.total_images", "many")
    assert "run.total_images" in message and "many" in message


def test_a_wrong_value_deep_in_the_model_names_option_and_value(fail: Fail, tmp_path: Path) -> None:
    message = fail("prior", tmp_path, "--model.init_args.average.ramp_up", "fast")
    assert "average.ramp_up" in message and "fast" in message and "LightningModule" not in message


def test_a_model_class_that_does_not_exist_is_named(fail: Fail, tmp_path: Path) -> None:
    assert "NoTraining" in fail("prior", tmp_path, "--model", "train.stages.prior.NoTraining")


def test_a_missing_folder_of_faces_is_named(fail: Fail, tmp_path: Path) -> None:
    message = fail("prior", tmp_path, "--data.faces", tmp_path / "nowhere")
    assert message == f"faces must be an existing folder, archive or list, got {tmp_path / 'nowhere'}; check the path"


def test_a_folder_without_faces_and_one_with_too_few_are_refused(fail: Fail, tmp_path: Path, faces: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    assert fail("prior", tmp_path, "--data.faces", few).startswith(f"{few} must hold at least one face image")
    (few / "only.png").write_bytes((faces / "00.png").read_bytes())
    assert fail("prior", tmp_path, "--data.faces", few).startswith(f"{few} must hold at least two faces")


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_resolution_that_is_no_power_of_two_is_refused_with_advice(fail: Fail, tmp_path: Path, stage: str) -> None:
    message = fail(stage, tmp_path, "--model.init_args.architecture.resolution", 500)
    wanted = "resolution must be a power of two from 32 to 2048, got 500; crop or resize the faces first"
    assert wanted in message


def test_a_batch_that_cannot_be_divided_into_minibatch_groups_is_refused(fail: Fail, tmp_path: Path) -> None:
    message = fail("prior", tmp_path, "--data.batch_size", 6)
    assert "6 images" in message and "groups of 4" in message


def test_a_batch_of_no_images_is_refused(fail: Fail, tmp_path: Path) -> None:
    assert "batch" in fail("prior", tmp_path, "--data.batch_size", 0)


def test_a_run_that_is_shorter_than_a_batch_is_refused(fail: Fail, tmp_path: Path) -> None:
    message = fail("prior", tmp_path, "--run.total_images", 3)
    assert "total_images" in message and "3" in message and "4" in message


@pytest.mark.parametrize("total", [0, -5])
def test_a_run_without_images_is_refused(fail: Fail, tmp_path: Path, total: int) -> None:
    message = fail("prior", tmp_path, "--run.total_images", total)
    assert f"total_images must be at least 1, got {total}" in message


def test_what_was_refused_leaves_no_run_that_would_block_the_corrected_command(
    fail: Fail, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail("prior", tmp_path, "--data.batch_size", 6)
    monkeypatch.setattr(sys, "argv", ["train", *arguments("prior", tmp_path, "--run.total_images", 4)])
    main()
    assert (tmp_path / "checkpoints" / "images_000000000004.ckpt").is_file()


START = "--model.init_args.start"


def test_a_start_checkpoint_that_is_missing_or_something_else_is_refused(fail: Fail, tmp_path: Path) -> None:
    missing, text, other = (tmp_path / name for name in ("nowhere.ckpt", "text.ckpt", "other.pt"))
    text.write_text("hello")
    torch.save({"weight": torch.zeros(3)}, other)
    assert fail("restoration", tmp_path, START, missing) == f"there is no checkpoint at {missing}; check the path"
    assert "is a text file that begins with 'hello'" in fail("restoration", tmp_path, START, text)
    assert "tensors of another network" in fail("restoration", tmp_path, START, other)


def test_a_start_checkpoint_of_another_architecture_or_without_discriminator_is_refused(
    fail: Fail, tmp_path: Path, tiny: Architecture
) -> None:
    narrow, bare = tmp_path / "narrow.safetensors", tmp_path / "bare.safetensors"
    save_release(narrow, Prior(Architecture(32, 1, 0.03125, style_dim=32, num_mapping_layers=2)))
    save_release(bare, GPEN(tiny))
    message = fail("restoration", tmp_path, START, narrow)
    assert "narrow 0.03125 instead of 0.0625" in message
    message = fail("restoration", tmp_path, START, bare, "--model.init_args.optimization.take_discriminator", "true")
    assert "holds no discriminator" in message and "take_discriminator false" in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model.init_args.degradation", "nonsense"], "no degradation preset or YAML file named nonsense"),
        (["--model.init_args.loss_weights.l1", "-1"], "loss weights must be 0 or more, got l1 -1.0"),
        (["--model.init_args.regularization.r1_interval", "-1"], "intervals must be 0 or more"),
        (["--model.init_args.average.half_life_images", "0"], "half_life_images and ramp_up must be above 0"),
        (
            ["--model.init_args.loss_weights", '{"identity": 1, "networks": {"identity_path": "/x.pth"}}'],
            "download model_ir_se50.pth",
        ),
        (["--data.flip_probability", "2"], "flip_probability must lie in [0, 1], got 2.0"),
        (["--run.keep_checkpoints", "0"], "keep_checkpoints must be at least 1, got 0"),
    ],
)
def test_a_value_out_of_its_range_is_refused(fail: Fail, tmp_path: Path, options: list[str], expected: str) -> None:
    assert expected in fail("restoration", tmp_path, *options)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_broken_faces_end_the_run_with_a_name_and_a_report_whoever_reads_them(
    fail: Fail, tmp_path: Path, faces: Path, num_workers: int
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for index in range(6):
        content = (faces / "00.png").read_bytes()
        (broken / f"{index}.png").write_bytes(content if index > 3 else content[:100])
    options = ["--data.faces", broken, "--data.validation_faces", faces, "--data.num_workers", num_workers]
    message = fail("prior", tmp_path / "run", *options)
    assert message.startswith(
        "2 of 6 faces cannot be used, at most 1 may be broken (data.max_broken_share); the last: "
    )
    assert f"cannot use {broken}" in message
    report = tmp_path / "run" / "broken_faces.jsonl"
    assert message.endswith(f"{report} names all of them") and report.read_text().count("\n") >= 2
    message = fail("prior", tmp_path / "strict", *options, "--data.max_broken_share", 0)
    assert message.startswith("1 of 6 faces cannot be used, at most 0 may be broken")


def test_few_broken_faces_end_no_run_and_are_named(
    faces: Path, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(faces, broken)
    (broken / "03.png").write_bytes(b"")
    (broken / "20.png").write_bytes((faces / "20.png").read_bytes()[:100])  # held out
    options = ["--data.faces", broken, "--data.num_workers", 2]
    monkeypatch.setattr(sys, "argv", ["train", *arguments("restoration", tmp_path / "run", *options)])
    main()
    for name, file in (("broken_faces", "03.png"), ("broken_validation_faces", "20.png")):
        lines = (tmp_path / "run" / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["file"] for line in lines] == [file]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model: {class_path: [[]]}", "model.class_path must be train.stages.prior.PriorTraining or"),
        ("model: {init_args: {architecture: [1]}}", "architecture must hold keys and values, got '[1]'"),
        ("model: {init_args: {average: null}}", "average must have a value, got null"),
        ("run: {log_every_images: null}", "log_every_images"),
        ("trainer: {devices: null}", "trainer.devices must have a value, got null"),
        ("data: {'': 1}", "keys must be names"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_in_one_line(fail: Fail, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "strange.yaml").write_text(text)
    assert reason in fail("prior", tmp_path / "run", "--config", tmp_path / "strange.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.mkdir [executed]",
        "a: &a [1]\nb: *a",
        "data: {batch_size: 4, batch_size: 8}",
        "[" * 5000,
    ],
    ids=["code", "references", "twice", "deep"],
)
def test_a_config_that_is_no_plain_yaml_is_refused(
    fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "hostile.yaml").write_text(text)
    message = fail("prior", tmp_path / "run", "--config", tmp_path / "hostile.yaml")
    assert "hostile.yaml" in message and len(message) < 600
    assert not (tmp_path / "executed").exists() and not (ROOT / "executed").exists()


def test_a_run_whose_updates_are_not_finite_ends_with_advice(fail: Fail, tmp_path: Path) -> None:
    broken = ["--model.init_args.optimization.generator_learning_rate", "1e30", "--run.max_skipped_updates", 3]
    message = fail("prior", tmp_path, *broken)
    assert "in a row were skipped (run.max_skipped_updates is 3): loss or gradient not finite; lower the" in message


def test_a_process_ends_with_code_2_and_one_line_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "train", "fit", "--config", "configs/prior_64.yaml"]
    options = ["--data.faces", str(tmp_path / "nowhere"), "--run.folder", str(tmp_path / "run")]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: faces must be an existing folder, archive or list, got {tmp_path / 'nowhere'}; check the path"
    ]
    assert not (tmp_path / "run").exists()


Help = Callable[..., str]


@pytest.fixture
def help_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """Gives the text of a help option, its white space collapsed."""

    def show(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", "fit", *options])
        monkeypatch.setenv("COLUMNS", "400")  # no word is divided
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert not exit_info.value.code
        return " ".join(capsys.readouterr().out.split())

    return show


def described(kind: Any, prefix: str) -> list[str]:
    """The options a dataclass becomes."""
    return [f"{prefix}.{field.name}" for field in fields(kind) if not is_dataclass(field.type)]


def check_described(text: str, options: list[str]) -> None:
    """Every option is explained by words before its type."""
    explanations = {}
    for part in text.split(" --")[1:]:
        name, _, explanation = part.partition(" ")
        explanations[name] = explanation.split("(type: ")[0].split("(required")[0]
    undescribed = [option for option in options if explanations[option].count(" ") < 3]
    assert not undescribed


def test_help_describes_every_option_of_run_and_data(help_text: Help) -> None:
    text = help_text("--help")
    kinds = {"run": RunSettings, "data": FaceSettings, "trainer": TrainerOptions}
    check_described(text, [option for prefix, kind in kinds.items() for option in described(kind, prefix)])
    assert "Everything the run writes. The same command with the same folder continues the run." in text
    assert "Memory for resized photographs, per worker." in text
    assert text.startswith("usage: python -m train")


@pytest.mark.parametrize(
    ("class_path", "groups", "single"),
    [
        ("train.stages.prior.PriorTraining", {"optimization": PriorOptimization}, ["fid_num_images"]),
        (
            "train.stages.restoration.RestorationTraining",
            {
                "optimization": RestorationOptimization,
                "loss_weights": RestorationLossWeights,
                "loss_weights.networks": PerceptualNetworks,
            },
            ["start", "degradation"],
        ),
    ],
)
def test_help_describes_every_option_of_a_model(
    help_text: Help, class_path: str, groups: dict[str, Any], single: list[str]
) -> None:
    text = help_text("--model.class_path", class_path, "--help")
    shared = {"architecture": Architecture, "regularization": Regularization, "average": MovingAverage}
    groups = {**groups, "computation": Computation}
    prefix = "model.init_args"
    options = [o for name, kind in {**shared, **groups}.items() for o in described(kind, f"{prefix}.{name}")]
    of_run = {f"{prefix}.computation.seed", f"{prefix}.computation.num_parts"}  # they follow run.seed and run.num_parts
    check_described(text, [o for o in options if o not in of_run] + [f"{prefix}.{name}" for name in single])
    assert not any(f"--{option} " in text for option in of_run)
    assert "Height and width of the faces in pixels, a power of two from 32 to 2048." in text
