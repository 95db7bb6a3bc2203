"""What mutated command lines work on: tiny faces, networks, runs, a bundle, and what nobody expects in their place."""

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from models import GPEN, Architecture, Prior, save_release
from system.command_line import Command
from train import command as train_command

ROOT = Path(__file__).resolve().parents[2]
TINY = {"resolution": 32, "channel_multiplier": 1, "narrow": 0.03125, "style_dim": 16, "num_mapping_layers": 2}
NO_UTF8 = os.fsdecode(b"no_utf8_\xff")
HOSTILE_FOLDER, HOSTILE_FILE = "=1+1 [bold]a\x1b[31m\nb[", "x]=2"  # together also the end of a mark, [/x]

TRAIN = ("--config {config} --run.folder {out} --run.total_images 8 --trainer.devices 1 --data.num_workers 0 "
         "--run.wandb off")  # fmt: skip
COMMANDS: dict[str, str] = {
    "train": f"fit {TRAIN}",
    "export": "--checkpoint {restorer} --output {out} --images 2 --precision float32",
    "scripts.benchmark": "inference --rounds 1 --threads 1 --output {out}.json",
    "scripts.check_gpu": "--device cpu --output {out}",
    "scripts.check_faces": "{faces} --resolution 32 --threads 1",
    "scripts.compare_quantization": (
        "--checkpoint {restorer} --calibration_faces {faces} --faces {faces} --num_calibration 2 --num_faces 2 "
        "--imbalance 0.0"
    ),
    "scripts.compare_runs": (
        "a={restorer} b={restoration_run} --faces {faces} --max_faces 2 --metrics psnr --output {out}"
    ),
    "scripts.convert_checkpoint": "{restorer} --to public --output {out}.pth",
    "scripts.describe_checkpoint": "{restorer}",
    "scripts.evaluate": "--checkpoint {restorer} --faces {faces} --max_faces 2 --metrics psnr ssim --output {out}",
    "scripts.evaluate_bundle": "{bundle} --outputs {outputs} --precision float32 --json {out}.json",
    "scripts.prepare_faces": "{photos} --output {out} --resolution 64",
    "scripts.preview_degradation": "--faces {faces} --output {out}.png --resolution 32 --num_faces 2",
    "scripts.publish_weights": (
        "--prior {prior_run} --restoration_run {restoration_run} --faces {faces} --data drawn --degradations small "
        "--output {out}"
    ),
    "scripts.render_faces": "--checkpoint {prior} --output {out} --number 2",
    "scripts.replay_update": "{dump}",
    "scripts.restore_faces": "--checkpoint {restorer} --input {faces} --output {out}",
    "scripts.restore_photos": "{photos} --checkpoint {restorer} --output {out}",
    "scripts.run_ablation": (
        "{study} --faces {faces} --validation_faces {faces} --output {out} --plan --prior_images 64 "
        "--restoration_images 64"
    ),
    "scripts.run_demo": "--faces {faces} --output {out} --prior_images 16 --restoration_images 16",
    "scripts.soak_run": "--output {out} --kills 1 --images_between 16",
    "scripts.verify_run": "{restoration_run} --images 4",
}
"""A correct command line of every command, by its module; names in braces are made by `make_inputs`."""


def all_commands() -> list[str]:
    """Modules that `python -m` runs, those without an entry above too."""
    scripts = {f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"}
    return sorted(scripts | set(COMMANDS))


def main_of(module: str) -> Command:
    """The function that a command calls."""
    name = module if module.startswith("scripts.") else f"{module}.__main__"
    command: Command = import_module(name).main
    return command


def words_of(module: str) -> list[str]:
    """A correct command line; of a command without an entry its required arguments as faces and the number 1."""
    if module in COMMANDS:
        return COMMANDS[module].split()
    words = []
    for name, parameter in signature(main_of(module)).parameters.items():
        is_needed = parameter.default is Parameter.empty and not is_dataclass(parameter.annotation)
        if is_needed and parameter.kind is not Parameter.VAR_POSITIONAL:
            value = "{out}" if name == "output" else "{faces}" if parameter.annotation is Path else "1"
            words += [value] if parameter.kind is Parameter.POSITIONAL_ONLY else [f"--{name}", value]
    return words


def make_inputs(folder: Path, in_another_process: Callable[[Callable[[], Any]], None]) -> Mapping[str, str]:
    """Fills a new folder with everything that command lines name.

    Args:
        folder: For all of it.
        in_another_process: Carries out what starts threads, after which a process could not be forked.

    Returns:
        Paths by their names in the command lines; those of strange inputs too.
    """
    folder.mkdir(parents=True)
    _draw_faces(folder / "faces")
    (folder / "photos").mkdir()
    with Image.open(ROOT / "weights" / "restored.png") as faces:
        faces.convert("RGB").crop((0, 0, 256, 128)).resize((768, 384)).save(folder / "photos" / "two.png")
    _write_strange(folder)
    torch.manual_seed(0)
    architecture = Architecture(**TINY)  # type: ignore[arg-type]
    save_release(folder / "restorer.safetensors", GPEN(architecture))
    save_release(folder / "prior.safetensors", Prior(architecture))
    for stage, class_path in zip(("prior", "restoration"), train_command.STAGES, strict=True):
        config = _config(folder, class_path)
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(config))
        in_another_process(lambda stage=stage: _train(folder, stage))  # type: ignore[misc]
    in_another_process(lambda: _train(folder, "diverging"))
    in_another_process(lambda: _export(folder))
    found = {path.stem if path.suffix in (".safetensors", ".zip") else path.name: path for path in folder.iterdir()}
    found |= {"config": folder / "restoration.yaml", "study": _study(folder)}
    found |= {"outputs": folder / "bundle" / "golden" / "outputs" / "float32"}
    found |= {"dump": next(iter((folder / "diverging_run" / "non_finite").iterdir()))}
    return {name: str(path) for name, path in found.items()}


def _config(folder: Path, class_path: str) -> dict[str, Any]:
    """A run of two iterations."""
    model: dict[str, Any] = {"architecture": TINY, "computation": {"minibatch_group_size": 2}}
    model |= {"degradation": "small"} if "restoration" in class_path else {"fid_num_images": 0}
    return {
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true"},
        "model": {"class_path": class_path, "init_args": model},
        "data": {"faces": str(folder / "faces"), "batch_size": 4, "num_workers": 0, "num_validation_faces": 2},
        "run": {"log_every_images": 4, "validate_every_images": 8, "wandb": "off", "convolutions": "whole"},
    }


def _study(folder: Path) -> Path:
    """A study that comes along, naming its configs from anywhere: the commands do not work in the repository."""
    text = (ROOT / "configs" / "ablations" / "noise_injection.yaml").read_text()
    study = folder / "noise_injection.yaml"
    study.write_text(text.replace("[configs/", f"[{ROOT}/configs/"))
    return study


def _draw_faces(folder: Path) -> None:
    """Eight smooth pictures, two in a sub folder whose name is as bad as names can be, and the same as a zip."""
    numbers = np.random.default_rng(0)
    (folder / HOSTILE_FOLDER).mkdir(parents=True)
    for index in range(8):
        coarse = Image.fromarray(numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        place = folder / f"{index}.png" if index < 6 else folder / HOSTILE_FOLDER / f"{HOSTILE_FILE}{index}.png"
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(place)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for index in range(3):
            archive.write(folder / f"{index}.png", f"{index}.png")


def _write_strange(folder: Path) -> None:
    """Files and folders that are something else than expected."""
    (folder / "empty_folder").mkdir()
    (folder / "empty_file").touch()
    (folder / "noise").write_bytes(np.random.default_rng(1).bytes(2000))
    (folder / "text.yaml").write_text("run: {seed: [1\n")
    (folder / "list.yaml").write_text("- 1\n- {a: null}\n")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / NO_UTF8).mkdir()
    (folder / NO_UTF8 / f"{NO_UTF8}.png").write_bytes((folder / "faces" / "0.png").read_bytes())


def _train(folder: Path, stage: str) -> None:
    """A tiny run; `diverging` skips its updates and dumps one."""
    words = ["--run.total_images", "8", "--run.folder", str(folder / f"{stage}_run")]
    if stage == "diverging":
        words += [
            "--model.init_args.regularization.r1_weight",
            "1e38",
            "--model.init_args.regularization.r1_interval",
            "1",
        ]
    config = folder / f"{'prior' if stage == 'diverging' else stage}.yaml"
    train_command.fit(["--config", str(config), *words])


def _export(folder: Path) -> None:
    """A bundle in float32."""
    from export.bundle.assembly import export_bundle
    from export.formats.options import ExportSettings, ParityFaces

    settings = ExportSettings(("float32",))
    export_bundle(folder / "restorer.safetensors", folder / "bundle", ParityFaces(images=2), settings)
