"""What a user's run on this card would do: what the loader can give, and a training of some minutes with its curves."""

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.gpu_iterations import Card
from benchmarks.iterations import Iterations, Size
from evaluation.reports.charts import curves_svg, run_curves
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import Architecture
from system.atomic_file import write_atomically
from system.child_processes import Children
from system.machine import ROOT
from system.wording import counted
from train.processes.strategy import OUT_OF_TIME_CODE
from train.reporting.tracking import read_table
from train.run.data_module import FacesDataModule
from train.run.settings import FaceSettings, RunSettings

CURVES = "training.svg"
DEGRADATION = "small"
TRAINING = (
    *("--config", str(ROOT / "configs" / "restoration_64.yaml")),
    *("--model.init_args.start", str(SHIPPED_PRIOR)),
    *("--model.init_args.degradation", DEGRADATION),
    *("--data.batch_size", "64"),
    *("--run.total_images", "100000000"),
    *("--run.log_every_images", "6400"),
    *("--run.validate_every_images", "32000"),
)
"""Stage 2 at 64 pixels from the shipped prior, in larger batches than the demo's."""


def train(card: Card, words: Sequence[str], faces: Path, minutes: float, folder: Path) -> dict[str, Any]:
    """Trains in a process of its own until the time is over; the folder gets the run as `training/`, and the curves.

    `words` are options of `python -m train fit` beside faces, folder, device and time. Gives images seen, images per
    second (median of the rows), share of time waited for faces, and the first and last PSNR and that of the degraded
    faces, in dB. ValueError where training failed; its message stands above.
    """
    run = folder / "training"
    command = ["-m", "train", "fit", *words, "--data.faces", str(faces.resolve()), "--run.folder", str(run.resolve())]
    command += ["--run.max_minutes", str(minutes), "--run.overwrite", "true", "--run.wandb", "off"]
    command += ["--trainer.accelerator", "gpu" if card.is_gpu else "cpu", "--trainer.devices", "1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(card.device.index or 0)} if card.is_gpu else None
    with Children() as children:
        code = children.finish(children.start(command, environment))
    if code not in (0, OUT_OF_TIME_CODE):
        raise ValueError(f"training ended with exit code {code}; its message stands above")
    curves = run_curves(run / "validation.csv", ("validation/psnr", "degraded/psnr"))
    write_atomically(folder / CURVES, curves_svg(curves, "images seen", "PSNR [dB]"))
    return _summary(run)


def _summary(run: Path) -> dict[str, Any]:
    rows, validations = read_table(run / "train.csv"), list(read_table(run / "validation.csv").values())
    return {
        "images_seen": max(rows),
        "images_per_second": median(row["speed/images_per_second"] for row in rows.values()),
        "loader_share": median(row["speed/loader_share"] for row in rows.values()),
        "psnr": [validations[i]["validation/psnr"] for i in (0, -1)],
        "degraded_psnr": validations[-1]["degraded/psnr"],
    }


NUM_DRAWN = 256
DRAWN_PIXELS, DRAWN_QUALITY = 512, 95
BATCH_SIZE = 16


def draw_faces(folder: Path) -> Path:
    """Faces for those who have none: drawn by the shipped prior, enlarged and stored as JPEG, 512 pixels wide."""
    small, large = folder / "drawn", folder / "enlarged"
    render_faces(SHIPPED_PRIOR, small, NUM_DRAWN, seed=0)
    for path in sorted(small.glob("*.png")):
        target = large / f"{path.stem}.jpg"
        if not target.is_file():
            with Image.open(path) as image:
                buffer = io.BytesIO()
                enlarged = image.resize((DRAWN_PIXELS, DRAWN_PIXELS), Image.Resampling.BICUBIC)
                enlarged.save(buffer, "JPEG", quality=DRAWN_QUALITY)
            write_atomically(target, buffer.getvalue())
    return large


def measure_reading(faces: Path, resolution: int, num_workers: int, seconds: float, run_folder: Path) -> dict[str, Any]:
    """Takes batches from a run's loader, at a resolution, for some seconds after the first one; no photograph is kept
    in memory. Gives the loader's speed in images per second, and what it read."""
    network = Architecture(resolution, 1, 0.03125, style_dim=16, num_mapping_layers=1)  # says the resolution
    settings = FaceSettings(faces, BATCH_SIZE, num_workers=num_workers, num_validation_faces=1, cache_mebibytes=0)
    data = FacesDataModule(settings, RunSettings(run_folder, total_images=10**9))
    data.trainer = Iterations(2, Size(network, 1), "32-true").trainer
    batches = iter(data.train_dataloader())
    next(batches)
    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        number += BATCH_SIZE
    speed = number / (time.perf_counter() - start)
    del batches
    data.end_workers()
    read = {"num_workers": num_workers, "resolution": resolution, "faces": counted(len(data.faces), "face")}
    return {"images_per_second": speed, **read}
