"""Every option of Lightning's Trainer is obeyed, or refused in one line that names what to do instead."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Trainer

from system import command_line
from train.command import main, resolve
from train.options import REFUSED, TrainerOptions, check_refused

Fail = Callable[..., str]
LIGHTNING = {name: p.default for name, p in inspect.signature(Trainer.__init__).parameters.items() if name != "self"}
OTHER: dict[type, Any] = {bool: lambda value: not value, int: lambda value: value + 3, float: lambda value: value + 0.5}


def test_every_option_of_the_trainer_is_obeyed_or_refused_and_no_other() -> None:
    obeyed = {field.name for field in fields(TrainerOptions)}
    assert not obeyed & set(REFUSED)
    assert obeyed | set(REFUSED) == set(LIGHTNING)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_option_may_have_lightnings_default_and_nothing_else(name: str) -> None:
    default, instead = REFUSED[name]
    assert default == LIGHTNING[name] and type(default) is type(LIGHTNING[name])
    check_refused({name: default})
    other = OTHER.get(type(default), lambda _: "3")(default)
    with pytest.raises(ValueError) as error:
        check_refused({name: other})
    assert str(error.value) == f"trainer.{name} is not obeyed: {instead}"


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("limit_val_batches", 3, "data.num_validation_faces"),
        ("val_check_interval", 3, "run.validate_every_images"),
        ("max_epochs", 1, "run.total_images"),
        ("max_time", "00:01:00:00", "run.max_minutes"),
        ("limit_train_batches", 3, "run.total_images"),
        ("overfit_batches", 3, "data.faces"),
        ("fast_dev_run", "true", "run.total_images"),
        ("accumulate_grad_batches", 2, "run.num_parts"),
        ("gradient_clip_val", 1, "optimization.clip_norm.generator"),
        ("strategy", "ddp", "trainer.devices"),
        ("callbacks", "[{class_path: pytorch_lightning.callbacks.EarlyStopping}]", "a run has its own"),
        ("devices", -1, "trainer.devices must be a number of processes where no GPU is used, got -1"),
        ("devices", "[0,1]", "trainer.devices must be a number of processes where no GPU is used"),
        ("devices", 10**9, "trainer.devices must be auto, a number from 1 to 64"),
        ("devices", "many", "trainer.devices must be auto, a number from 1 to 64"),
        ("accelerator", "tpu", "trainer.accelerator must be one of auto, cpu, gpu, cuda, got tpu"),
        ("num_nodes", 0, "trainer.num_nodes must be at least 1, got 0"),
        ("precision", "64-true", "trainer.precision must be auto, 32-true or bf16-mixed, got 64-true"),
        ("precision", "16-mixed", "fp16 needs a gradient scaler, which is not supported"),
        ("precision", "fp16", "trainer.precision must be auto, 32-true or bf16-mixed, got fp16"),
    ],
)
def test_what_cannot_be_obeyed_ends_in_one_line(
    fail: Fail, tmp_path: Path, option: str, value: object, reason: str
) -> None:
    message = fail("prior", tmp_path / "run", f"--trainer.{option}={value}")
    assert reason in message and len(message) < 300
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("run.total_image", 3, "unrecognized arguments"),
        ("model.init_args.average.ramp", 3, "unrecognized arguments"),
        ("run.folder", "null", "run.folder must be a path, got null"),
        ("run.max_minutes", 0, "run: max_minutes must be above 0"),
        ("run.wandb", "on", "run.wandb must be one of off, offline, online, got on"),
        ("model.init_args.optimization.betas", 3, "optimization.betas must be 2 values in brackets, got 3"),
        ("model.class_path", "torch.nn.Linear", "model.class_path must be train.stages.prior.PriorTraining or"),
    ],
)
def test_an_option_that_is_no_option_or_no_value_for_it_is_named(
    fail: Fail, tmp_path: Path, option: str, value: object, reason: str
) -> None:
    assert reason in fail("prior", tmp_path / "run", f"--{option}", value)


def test_a_run_whose_minutes_are_over_saves_ends_with_75_and_goes_on(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, code, images in (("1e-6", 75, 4), ("1e-6", 75, 8), ("null", 0, 12)):
        words = arguments("prior", tmp_path / "run", "--run.total_images", 12, "--run.max_minutes", limit)
        monkeypatch.setattr("sys.argv", ["train", *words])
        with pytest.raises(SystemExit) as ended:
            command_line.conclude(main)
        assert ended.value.code == code
        assert (tmp_path / "run" / "checkpoints" / f"images_{images:012}.ckpt").is_file()


def test_paths_in_options_and_in_yaml_understand_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "home.yaml").write_text("data: {faces: ~/faces}\nrun: {folder: runs/a}\n")
    words = ["--config", str(root / "configs/prior_64.yaml"), "--config", "~/home.yaml"]
    config = resolve([*words, "--data.validation_faces=~/others"])
    assert config["data"]["faces"] == f"{tmp_path}/faces" and config["data"]["validation_faces"] == f"{tmp_path}/others"
    assert config["run"]["folder"] == "runs/a"
