"""Every recipe in configs/ can be run by the command that stands at its head."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import train.stages.restoration
from data.ranges import model_to_uint8
from inference.drawing import SHIPPED_PRIOR, sample
from models import GPEN, load_prior
from train.command import main
from train.training import Training

ROOT = Path(__file__).resolve().parents[2]
OF_OTHER_COMMANDS = ("degradations", "ablations", "sweeps")
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name not in OF_OTHER_COMMANDS)
NAMES = [str(path.relative_to(ROOT)) for path in CONFIGS]


def command_of(path: Path) -> list[str]:
    """The arguments after `python -m train` in the comment at the head of a file."""
    head = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")]
    starts = [index for index, line in enumerate(head) if "python -m train fit" in line]
    assert starts, f"{path} must begin with the command it is run by"
    words = head[starts[0]].split("python -m train ")[1].split()
    for line in head[starts[0] + 1 :]:
        if not line.startswith("--"):
            break
        words += line.split()
    end = next((index for index, word in enumerate(words) if word.startswith(("(", "…"))), len(words))
    return words[:end]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faces: Path) -> Any:
    """Instantiates everything a command needs without memory for weights or weights from elsewhere."""
    built: list[Training] = []
    monkeypatch.setattr(Training, "fit", lambda self: built.append(self) or 0)
    monkeypatch.setattr(train.stages.restoration, "start_networks", lambda *_: [])
    monkeypatch.setattr("train.stages.restoration_losses.LpipsLoss", lambda *_: nn.Identity())
    monkeypatch.setattr("train.stages.restoration_losses.IdentityLoss", lambda *_: nn.Identity())
    machine = ["--data.faces", faces, "--run.folder", tmp_path, "--run.wandb", "off"]
    machine += ["--trainer.devices", 1, "--trainer.accelerator", "cpu", "--run.seed", 7]

    def run(arguments: list[str]) -> Training:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["train", *arguments, *map(str, machine)])
        with torch.device("meta"):
            main()
        return built[-1]

    return run


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_command_at_the_head_of_a_config_builds_its_run(name: str, build: Any) -> None:
    arguments = command_of(ROOT / name)
    assert name in arguments
    command = build(arguments)
    module, settings = command.model, command.settings
    assert next(module.generator.parameters()).device.type == "meta"
    # Seed and length of the run reach model and data.
    assert module.progress.seed == command.data.run.seed == settings.seed == 7
    assert command.data.run.total_images == settings.total_images
    batch_size, group = command.data.batch_size, module.discriminator.minibatch_group_size
    assert group is None or batch_size % group == 0
    for rhythm in ("log_every_images", "validate_every_images", "checkpoint_every_images"):
        assert batch_size <= getattr(settings, rhythm) <= settings.total_images


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_the_512_pixel_configs_and_the_overlay_of_256_have_the_size_of_the_public_networks(
    stage: str, build: Any
) -> None:
    base = ["fit", "--config", f"configs/{stage}_512.yaml"]
    full, quarter = build(base).model, build([*base, "--config", "configs/size_256.yaml"]).model
    assert count(full.discriminator) == 28_982_849 and count(quarter.discriminator) == 6_002_977
    if stage == "restoration":
        assert count(full.generator) == 71_005_223 and count(quarter.generator) == 18_879_010
    else:
        with torch.device("meta"):
            public = GPEN(full.architecture).decoder
        assert count(full.generator) == count(public)


def test_prior_and_restoration_of_a_size_fit_together(build: Any) -> None:
    for size in ("64", "512"):
        prior, restoration = (build(["fit", "--config", f"configs/{s}_{size}.yaml"]) for s in ("prior", "restoration"))
        assert prior.model.architecture == restoration.model.architecture


def leaves(values: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all values of a nested structure."""
    values = vars(values) if hasattr(values, "__dict__") else values
    if not isinstance(values, dict):
        yield prefix[:-1]
        return
    for name, value in values.items():
        yield from leaves(value, f"{prefix}{name}.")


def test_the_512_pixel_prior_config_names_every_option_of_the_method(build: Any) -> None:
    path = "configs/prior_512.yaml"
    written = set(leaves(yaml.safe_load((ROOT / path).read_text())["model"]["init_args"]))
    options = set(leaves(build(["fit", "--config", path]).config["model"]["init_args"]))
    assert options - written <= {
        "computation.seed",
        "computation.num_parts",
        "computation.recompute",
        "computation.compile",
        "fid_num_images",
    }  # of run, and what says nothing about training


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_method_says_where_it_comes_from(name: str) -> None:
    of_the_method = (ROOT / name).read_text().split("\nrun:")[0].splitlines()
    # The resolution is in the file's name; a weight of 0 leaves a term out.
    silent = [line for line in of_the_method if re.match(r"\s+(?!resolution)\w+: (?!0\.0$)[^#]*\d[^#]*$", line)]
    assert silent == []


TASKS = {
    "colorization": "colorization",
    "inpainting": "inpainting",
    "super_resolution": "super_resolution_4",
    "segmentation_to_face": None,  # stored pairs
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_from_the_shipped_restorer_and_is_measured_better_than_its_input(
    task: str, tmp_path: Path
) -> None:
    prior, preset = load_prior(SHIPPED_PRIOR), TASKS[task]
    drawn = model_to_uint8(sample(prior, 0, range(32), "rendered faces", truncation=0.7)).permute(0, 2, 3, 1).numpy()
    for folder in ("faces", "maps"):
        (tmp_path / folder).mkdir()
    for index, face in enumerate(drawn):
        Image.fromarray(face).save(tmp_path / "faces" / f"{index:02}.png")
        parts = Image.fromarray(face).resize((8, 8), Image.Resampling.BOX).quantize(4)  # a map of few colours
        parts.convert("RGB").resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "maps" / f"{index:02}.png")
    faces, maps = ["--data.faces", tmp_path / "faces"], ["--data.degraded", tmp_path / "maps"]
    words = ["--config", "configs/restoration_64.yaml", "--config", f"configs/tasks/{task}.yaml", *faces]
    words += ["--model.init_args.start", "weights/gpen_64.safetensors", "--run.folder", tmp_path / "run"]
    words += ["--run.total_images", 64, "--run.validate_every_images", 64, "--run.checkpoint_every_images", 64]
    words += ["--run.log_every_images", 8, "--run.wandb", "off", "--data.num_workers", 0]
    words += ["--trainer.accelerator", "cpu", "--model.init_args.optimization.take_discriminator", "false"]
    _command("train", "fit", *words, *([] if preset else maps))
    stored = ["--degraded-folder", tmp_path / "maps", "--target-folder", tmp_path / "faces"]
    asked = ["--faces", tmp_path / "faces", "--degradation", preset] if preset else stored
    _command(
        "scripts.evaluate", "--checkpoint", tmp_path / "run", *asked, "--metrics", "psnr", "--output", tmp_path / "out"
    )
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    protocol = told["protocol"]
    assert protocol["degradation"].endswith(preset or str(tmp_path / "maps")) and protocol["num_faces"] == 32
    assert told["restored"]["psnr"]["mean"] > told["degraded"]["psnr"]["mean"]


def _command(module: str, *words: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
