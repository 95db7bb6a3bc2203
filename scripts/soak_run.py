"""Kills runs of both stages at random moments until they are done, and compares them with runs that nobody killed.

`python -m scripts.soak_run --output FOLDER` draws faces, trains a tiny prior and a tiny restorer (32 pixels, worker
processes, bf16, lazy terms, gradient accumulation) once undisturbed and once with SIGKILLs, of which every third waits
for the write of a checkpoint. Exit code 1 where a loss, a tensor or a picture differs in any bit.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from scripts.verify_run import compare_runs
from system import command_line
from train.run.checkpoints import checkpoints_in, images_of

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
BATCH_SIZE, NUM_FACES = 8, 40


def main() -> None:
    """Soaks both stages and prints what happened."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak_run", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="new folder for faces and runs")
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs for each stage")
    parser.add_argument(
        "--images-between", type=int, default=256, help="images a run gets on, on average, before a kill"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which to soak")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    if options.output.exists():
        raise ValueError(f"--output must be a new folder, got {options.output}, which exists")
    if options.kills < 1 or options.images_between < BATCH_SIZE:
        raise ValueError(f"there must be a kill and {BATCH_SIZE} images between two, got {options.kills} kills")
    draw_faces(options.output / "faces")
    random_moments = random.Random(options.seed)
    all_equal = True
    for stage in options.stages:
        total_images = ((options.kills + 1) * options.images_between + 20 * BATCH_SIZE) // BATCH_SIZE * BATCH_SIZE
        whole, killed = (options.output / f"{stage}_{name}" for name in ("whole", "killed"))
        train(stage, whole, options.output / "faces", total_images)
        kills, in_writes = soak(stage, killed, options, total_images, random_moments)
        compared, different = compare_stage(stage, whole, killed, total_images)
        all_equal = all_equal and not different
        result = f"DIFFERENT: {'; '.join(different[:5])}" if different else "equal bit for bit"
        print(f"{stage}: {kills} kills, {in_writes} within the write of a checkpoint; {', '.join(compared)}: {result}")
    if not all_equal:
        sys.exit(1)


def draw_faces(folder: Path) -> None:
    """Writes smooth coloured pictures."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for index in range(NUM_FACES):
        coarse = Image.fromarray(numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")


def start_training(stage: str, folder: Path, faces: Path, total_images: int) -> "subprocess.Popen[bytes]":
    """Starts, or continues, a run with everything on that could make a difference."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": "bf16-mixed"},
        "model": STAGES[stage],
        "data": {"faces": str(faces), "batch_size": BATCH_SIZE, "num_workers": 2},
        "run": {
            "folder": str(folder),
            "num_parts": 2,
            "total_images": total_images,
            "log_every_images": 2 * BATCH_SIZE,
            "validate_every_images": 16 * BATCH_SIZE,
            "checkpoint_every_images": 5 * BATCH_SIZE,
            "wandb": "off",
        },
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "train", "fit", "--config", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny networks are fastest so
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def train(stage: str, folder: Path, faces: Path, total_images: int) -> None:
    """Trains to the end.

    Raises:
        ValueError: Training failed.
    """
    code = start_training(stage, folder, faces, total_images).wait()
    if code != 0:
        raise ValueError(f"{stage}: training ended with code {code}; see {folder.with_suffix('.log')}")


def soak(
    stage: str, folder: Path, options: argparse.Namespace, total_images: int, moments: random.Random
) -> tuple[int, int]:
    """Kills a run at random moments, every third time within the write of a checkpoint, and lets it end at last.

    Returns:
        Kills, and how many of them left a half-written checkpoint behind.
    """
    in_writes = 0
    for kill in range(options.kills):
        before = _progress(folder)
        process = start_training(stage, folder, options.output / "faces", total_images)
        goal = min(before + moments.randint(1, 2 * options.images_between - 1), total_images - 20 * BATCH_SIZE)
        while process.poll() is None and _progress(folder) < goal:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.5)  # anywhere within an iteration
        while kill % 3 == 2 and process.poll() is None and not _half_written(folder):
            time.sleep(0)
        if process.poll() is not None:
            raise ValueError(f"{stage}: training ended before it was killed; see {folder.with_suffix('.log')}")
        os.killpg(process.pid, signal.SIGKILL)  # its workers as well, as when a machine goes down
        process.wait()
        in_writes += bool(_half_written(folder))
    train(stage, folder, options.output / "faces", total_images)
    return options.kills, in_writes


def compare_stage(stage: str, whole: Path, killed: Path, total_images: int) -> tuple[list[str], list[str]]:
    """Every row, every tensor of the last checkpoint, every picture."""
    compared, different = compare_runs(whole, killed, total_images)
    pictures = sorted((whole / PICTURES[stage]).iterdir())
    different += [p.name for p in pictures if p.read_bytes() != (killed / PICTURES[stage] / p.name).read_bytes()]
    return [*compared, f"{len(pictures)} pictures"], different


def _progress(folder: Path) -> int:
    """Images of the last row or checkpoint."""
    table = folder / "train.csv"
    rows = table.read_text().splitlines()[1:] if table.is_file() else []
    logged = [int(row.partition(",")[0]) for row in rows[-1:] if row.partition(",")[0].isdigit()]
    return max([0, *logged, *(images_of(path) for path in checkpoints_in(folder / "checkpoints"))])


def _half_written(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob(".images_*.ckpt"))


if __name__ == "__main__":
    command_line.run(main)
