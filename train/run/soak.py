"""Kills runs of both stages at random moments until they are done, and compares them with runs that nobody killed."""

import os
import random
import signal
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import yaml
from PIL import Image

from evaluation.reports.tables import read_rows
from models.files.run_folder import checkpoints_in, images_of
from system import machine
from system.child_processes import Children
from system.wording import counted
from train.run.repetition import compare_runs
from train.run.settings import SOAKED_BATCH, WHOLE, Soak

ARCHITECTURE = {"resolution": 32, "channel_multiplier": 1, "narrow": 0.0625, "style_dim": 32, "num_mapping_layers": 2}
LAZY = {"r1_interval": 4, "path_length_interval": 3}
STAGES: dict[str, dict[str, Any]] = {
    "prior": {
        "class_path": "train.stages.prior.PriorTraining",
        "init_args": {"architecture": ARCHITECTURE, "regularization": LAZY, "fid_num_images": 0},
    },
    "restoration": {
        "class_path": "train.stages.restoration.RestorationTraining",
        "init_args": {"architecture": ARCHITECTURE, "regularization": LAZY, "degradation": "small"},
    },
}
PICTURES = {"prior": "samples", "restoration": "pictures"}
NUM_FACES = 40


def soak_stages(soak: Soak, stages: tuple[str, ...] = tuple(STAGES)) -> bool:
    """Trains each stage undisturbed and with kills, prints whether both are equal, and returns whether no loss, tensor
    or picture differs in any bit. Raises ValueError where training failed."""
    draw_faces(soak.faces)
    moments = random.Random(soak.seed)
    all_equal = True
    with Children() as children:
        for stage in stages:
            whole, killed = (soak.output / f"{stage}_{name}" for name in ("whole", "killed"))
            _train(children, stage, whole, soak)
            in_writes = _kill_again_and_again(children, stage, killed, soak, moments)
            _train(children, stage, killed, soak)
            compared, different = compare_stage(stage, whole, killed, soak.total_images)
            all_equal = all_equal and not different
            result = f"DIFFERENT: {'; '.join(different[:5])}" if different else "equal bit for bit"
            print(
                f"{stage}: {counted(soak.kills, 'kill')}, {in_writes} within the write of a checkpoint; "
                f"{', '.join(compared)}: {result}",
                flush=True,
            )
    return all_equal


def draw_faces(folder: Path) -> None:
    """Writes smooth coloured pictures."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for index in range(NUM_FACES):
        coarse = Image.fromarray(numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")


def _start(children: Children, stage: str, folder: Path, soak: Soak) -> "Popen[bytes]":
    """Starts, or continues, a run with everything on that could make a difference."""
    config = {
        # bf16 where it is native: emulated it would take hours, and no other code is run.
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": machine.native_precisions()[-1]},
        "model": STAGES[stage],
        "data": {"faces": str(soak.faces.resolve()), "batch_size": SOAKED_BATCH, "num_workers": 2},
        "run": {
            "folder": str(folder.resolve()),
            "num_parts": 2,
            "total_images": soak.total_images,
            "log_every_images": 2 * SOAKED_BATCH,
            "validate_every_images": 16 * SOAKED_BATCH,
            "checkpoint_every_images": 5 * SOAKED_BATCH,
            "wandb": "off",
            "convolutions": WHOLE,  # two runs could measure differently
        },
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny networks are fastest so
    with folder.with_suffix(".log").open("ab") as log:
        return children.start(["-m", "train", "fit", "--config", str(path.resolve())], environment, log, log)


def _train(children: Children, stage: str, folder: Path, soak: Soak) -> None:
    code = children.finish(_start(children, stage, folder, soak))
    if code != 0:
        raise ValueError(f"{stage}: training ended with code {code}; see {folder.with_suffix('.log')}")


def _kill_again_and_again(children: Children, stage: str, folder: Path, soak: Soak, moments: random.Random) -> int:
    """Kills a run at random moments, every third time within the write of a checkpoint; returns how many left half of
    one."""
    in_writes = 0
    for kill in range(soak.kills):
        before = _progress(folder)
        process = _start(children, stage, folder, soak)
        goal = min(before + moments.randint(1, 2 * soak.images_between - 1), soak.total_images - 20 * SOAKED_BATCH)
        while process.poll() is None and _progress(folder) < goal:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.5)  # anywhere within an iteration
        while kill % 3 == 2 and process.poll() is None and not _half_written(folder):
            time.sleep(0)
        children.leave_if_stopped()
        if process.poll() is not None:
            raise ValueError(f"{stage}: training ended before it was killed; see {folder.with_suffix('.log')}")
        os.killpg(process.pid, signal.SIGKILL)  # its workers as well, as when a machine goes down
        children.wait(process)
        in_writes += bool(_half_written(folder))
    return in_writes


def compare_stage(stage: str, whole: Path, killed: Path, total_images: int) -> tuple[list[str], list[str]]:
    """Every row, every tensor of the last checkpoint, every picture."""
    compared, different = compare_runs(whole, killed, total_images)
    pictures = sorted((whole / PICTURES[stage]).iterdir())
    different += [p.name for p in pictures if p.read_bytes() != (killed / PICTURES[stage] / p.name).read_bytes()]
    return [*compared, counted(len(pictures), "picture")], different


def _progress(folder: Path) -> int:
    saved = [images_of(path) for path in checkpoints_in(folder / "checkpoints")]
    return max([0, *read_rows(folder / "train.csv"), *saved])


def _half_written(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob(".images_*.ckpt"))
