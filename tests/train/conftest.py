"""Runs of tiny networks on drawn faces: through the command line, or one LightningModule at a time."""

import csv
import json
import os
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import FaceBatch
from models import Architecture
from system import command_line
from train.command import main
from train.training import quiet_libraries

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "resolution": 32,
    "channel_multiplier": 1,
    "narrow": 0.0625,
    "noise_mode": "concat",
    "style_dim": 32,
    "num_mapping_layers": 2,
}
LAZY = {"r1_weight": 1.0, "r1_interval": 2, "path_length_interval": 2}
RUN = {
    "total_images": 24,
    "log_every_images": 8,
    "validate_every_images": 16,
    "checkpoint_every_images": 1000,
    "wandb": "off",
    "convolutions": "whole",  # no test depends on the clock
}
MODELS: dict[str, dict[str, Any]] = {
    "prior": {
        "class_path": "train.stages.prior.PriorTraining",
        "init_args": {"architecture": TINY, "regularization": LAZY, "fid_num_images": 0},
    },
    "restoration": {
        "class_path": "train.stages.restoration.RestorationTraining",
        "init_args": {"architecture": TINY, "regularization": LAZY, "degradation": "small"},
    },
}

Arguments = Callable[..., list[str]]
Fail = Callable[..., str]
Train = Callable[..., None]
Launch = Callable[..., "subprocess.Popen[str]"]
Fit = Callable[..., LightningModule]
MakeBatch = Callable[[Sequence[int]], FaceBatch]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is downloaded and no cache is read, so that LPIPS is off during validation."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "torch"))
    monkeypatch.delenv("GPEN_WEIGHTS", raising=False)


@pytest.fixture(scope="session")
def tiny() -> Architecture:
    """32 pixels, 32 channels, 32 wide styles."""
    return Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 22 smooth coloured pictures of 40 pixels, the last two of which are held out."""
    folder = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    for index in range(22):
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def configs(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> dict[str, Path]:
    """A complete YAML file of a tiny run for each stage."""
    folder = tmp_path_factory.mktemp("configs")
    paths = {}
    for stage, model in MODELS.items():
        paths[stage] = folder / f"{stage}_32.yaml"
        content = {
            "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true"},
            "model": model,
            "data": {"faces": str(faces), "batch_size": 4, "num_workers": 0},
            "run": RUN,
        }
        paths[stage].write_text(yaml.safe_dump(content))
    return paths


@pytest.fixture(scope="session")
def arguments(configs: dict[str, Path]) -> Arguments:
    """Gives the arguments after `python -m train` for (stage, folder, more options)."""

    def make(stage: str, folder: Path, *options: object) -> list[str]:
        return ["fit", "--config", str(configs[stage]), "--run.folder", str(folder), *map(str, options)]

    return make


@pytest.fixture
def train(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs `python -m train fit` in this process; arguments as for `arguments`."""

    def run(stage: str, folder: Path, *options: object) -> None:
        monkeypatch.setattr(sys, "argv", ["train", *arguments(stage, folder, *options)])
        main()

    return run


@pytest.fixture
def launch(arguments: Arguments) -> Iterator[Launch]:
    """Starts `python -m train fit` in a process of its own; arguments as for `arguments`."""
    # A proxy that nobody listens at: what the fixture `offline` is for other tests.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9"}
    processes = []

    def start(stage: str, folder: Path, *options: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "train", *arguments(stage, folder, *options)]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # to be ended together with the processes it starts
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def fit() -> Fit:
    """Trains a LightningModule for one iteration per batch, without command line or callbacks."""

    def run(module: LightningModule, batches: Sequence[FaceBatch]) -> LightningModule:
        quiet_libraries()
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader: Any = DataLoader(list(batches), batch_size=None, collate_fn=_unchanged)  # type: ignore[arg-type]
        trainer.fit(module, loader)
        return module

    return run


def _unchanged(batch: FaceBatch) -> FaceBatch:
    return batch


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Makes a batch of drawn faces of 32 pixels; the face of an image index is always the same."""

    def make(image_indices: Sequence[int]) -> FaceBatch:
        coarse = torch.stack([_drawn(index) for index in image_indices])  # [N, 3, 5, 5]
        smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 255)
        return FaceBatch(smooth.to(torch.uint8), list(image_indices))

    return make


def _drawn(index: int) -> Tensor:
    return torch.randint(0, 256, (3, 5, 5), generator=torch.Generator().manual_seed(index)).float()


@pytest.fixture(scope="session")
def read_checkpoint_file() -> Callable[[Path], dict[str, Any]]:
    """Loads a checkpoint as `images_….ckpt` holds it; takes the folder of a run (its latest) or a file."""

    def read(path: Path) -> dict[str, Any]:
        if path.is_dir():
            path = sorted((path / "checkpoints").glob("images_*.ckpt"))[-1]
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content

    return read


@pytest.fixture(scope="session")
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    """Reads a CSV file of a run without the columns that depend on the clock."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{n: v for n, v in row.items() if not n.startswith(("speed/", "memory/"))} for row in rows]

    return read


@pytest.fixture(scope="session")
def differences() -> Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]:
    """Lists where two nested structures of tensors and plain values differ in any bit."""

    def compare(one: Any, other: Any, name: str = "") -> list[str]:
        if isinstance(one, Tensor):
            return [] if torch.equal(one, other) else [name]
        if isinstance(one, Mapping):
            missing = [f"{name}.{key}" for key in set(one) ^ set(other)]
            shared = [key for key in one if key in other]
            return missing + [d for key in shared for d in compare(one[key], other[key], f"{name}.{key}")]
        if isinstance(one, list | tuple):
            if len(one) != len(other):
                return [name]
            return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in compare(a, b, f"{name}.{i}")]
        return [] if one == other else [name]

    return compare


@pytest.fixture
def fail(arguments: Arguments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Runs a command that must fail as users see it; gives the line without `error: `."""

    def run(stage: str, folder: Path, *options: object) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *arguments(stage, folder, *options)])
        with pytest.raises(SystemExit) as exit_info:
            command_line.conclude(main)
        errors = capsys.readouterr().err.splitlines()
        assert exit_info.value.code == 2
        assert len(errors) == 1 and errors[0].startswith("error: "), errors
        return errors[0].removeprefix("error: ")

    return run


@pytest.fixture
def in_two_processes(tmp_path: Path) -> Callable[[str], list[list[float]]]:
    """Runs code in two connected processes, where `rank` is their number; gives the list that each prints at last."""
    connect = (
        "import json, sys, torch\n"
        "rank = int(sys.argv[1])\n"
        'torch.distributed.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)\n'
    )

    def run(code: str) -> list[list[float]]:
        command = [sys.executable, "-c", connect + code]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(tmp_path / "store")], cwd=ROOT, env=environment, stdout=subprocess.PIPE
            )
            for rank in range(2)
        ]
        return [json.loads(process.communicate(timeout=180)[0].splitlines()[-1]) for process in processes]

    return run
