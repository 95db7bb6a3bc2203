"""A tiny restorer with random weights and a few drawn faces, made once."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import command_line
from models import GPEN, Architecture, load_generator, save_release
from models.checkpoint_file import write_sealed
from models.checkpoints import lightning_entry
from scripts import evaluate
from scripts.comparison import measurement

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release file of a random 32-pixel GPEN."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("release") / "gpen.safetensors"
    save_release(path, GPEN(Architecture(resolution=32, channel_multiplier=1, narrow=1 / 32, style_dim=16)))
    return path


@pytest.fixture(scope="session")
def draw_faces() -> Callable[[Path], Path]:
    """Fills a folder with five smooth coloured images of two sizes, one in a sub folder."""

    def draw(folder: Path) -> Path:
        (folder / "more").mkdir(parents=True)
        generator = np.random.default_rng(0)
        for index in range(5):
            coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            image = coarse.resize((32 + 8 * (index % 2),) * 2, Image.Resampling.BICUBIC)
            image.save(folder / ("more" if index == 4 else ".") / f"{index}.png")
        return folder

    return draw


@pytest.fixture
def faces_folder(tmp_path: Path, draw_faces: Callable[[Path], Path]) -> Path:
    """A folder of `draw_faces`."""
    return draw_faces(tmp_path / "faces")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command's main with arguments; gives exit code, stdout and stderr."""

    def run_main(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            command_line.run(main)
        output = capsys.readouterr()
        code = exit_info.value.code
        return code if isinstance(code, int) else 1, output.out, output.err

    return run_main


@pytest.fixture
def make_run(tmp_path: Path, release: Path) -> Callable[..., Path]:
    """Writes a finished run of stage 2 whose checkpoints hold the tiny restorer."""

    def make(name: str, seed: int = 0, start: Path | None = None, at_images: tuple[int, ...] = (2000,)) -> Path:
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        generator = load_generator(release)
        content = {
            "gpen-trainer": lightning_entry("gpen", generator.architecture, 4),
            "state_dict": {f"ema.{name}": value for name, value in generator.state_dict().items()},
        }
        for images in at_images:
            write_sealed(content, folder / "checkpoints" / f"images_{images:012}.ckpt")
        model = {
            "class_path": "train.restoration_training.RestorationTraining",
            "init_args": {"start": None if start is None else str(start), "noise": name},
        }
        config = {"model": model, "run": {"seed": seed, "log_every_images": 1000, "folder": str(folder)}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        session = {"git_commit": "unknown", "git_dirty": None, "num_processes": 1, "num_threads": 1,
                   "precision": "32-true", "machine": {}, "versions": {}}  # fmt: skip
        (folder / "run.json").write_text(json.dumps({"data": {}, "sessions": [session]}))
        (folder / "train.csv").write_text("images_seen,speed/images_per_second,generator/l1\n1000,50,1\n2000,50,0.5\n")
        return folder

    return make


@pytest.fixture
def evaluations_in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Makes `evaluate_checkpoint` call scripts.evaluate without a process of its own; collects the commands."""
    commands: list[list[str]] = []

    def run_here(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        with monkeypatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
            patch.setattr(sys, "argv", command[2:])
            with pytest.raises(SystemExit) as exit_info:
                command_line.run(evaluate.main)
        return subprocess.CompletedProcess(command, int(exit_info.value.code or 0), None, errors.getvalue())

    monkeypatch.setattr(measurement.subprocess, "run", run_here)
    return commands
