"""What the loader can give: faces read, decoded and resized by its workers, with nothing that waits for them."""

import io
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.iterations import Iterations, Size
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import Architecture
from system.atomic_file import write_atomically
from train.run.data_module import FacesDataModule
from train.run.settings import FaceSettings, RunSettings

NUM_DRAWN = 256
DRAWN_PIXELS, DRAWN_QUALITY = 512, 95
BATCH_SIZE = 16


class Reading(NamedTuple):
    """Speed of the loader alone."""

    images_per_second: float
    num_workers: int
    resolution: int
    """Of the images it gives."""
    faces: str
    """What it reads."""


def draw_faces(folder: Path, number: int = NUM_DRAWN) -> Path:
    """Faces for those who have none: drawn by the shipped prior, enlarged and stored as JPEG, 512 pixels wide."""
    small, large = folder / "drawn", folder / "enlarged"
    render_faces(SHIPPED_PRIOR, small, number, seed=0)
    for path in sorted(small.glob("*.png")):
        target = large / f"{path.stem}.jpg"
        if not target.is_file():
            with Image.open(path) as image:
                buffer = io.BytesIO()
                enlarged = image.resize((DRAWN_PIXELS, DRAWN_PIXELS), Image.Resampling.BICUBIC)
                enlarged.save(buffer, "JPEG", quality=DRAWN_QUALITY)
            write_atomically(target, buffer.getvalue())
    return large


def measure_reading(faces: Path, resolution: int, num_workers: int, seconds: float, run_folder: Path) -> Reading:
    """Takes batches from a run's loader for some seconds; no photograph is kept in memory.

    Args:
        faces: Photographs.
        resolution: They are resized to.
        num_workers: Processes that read.
        seconds: To measure, after the first batch.
        run_folder: Gets the list of broken faces, if there are any.
    """
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
    return Reading(speed, num_workers, resolution, f"{len(data.faces):,} faces")
