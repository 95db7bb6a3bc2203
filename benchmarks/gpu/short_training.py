"""A training of some minutes as users run it, and its curves."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.card import Card
from evaluation.reports.charts import Curve, columns_of, curves_svg
from inference.drawing import SHIPPED_PRIOR
from system.atomic_file import write_atomically
from system.child_processes import Children
from system.machine import ROOT
from train.processes.signals import OUT_OF_TIME_CODE

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
    """Trains in a process of its own until the time is over.

    Args:
        card: Where.
        words: Options of `python -m train fit` beside faces, folder, device and time.
        faces: To train on; the last ones by name are held out.
        minutes: Of training.
        folder: Gets the run as `training/`, and the curves.

    Returns:
        Images seen, images per second (median of the rows), share of time waited for faces, and the first and last
        PSNR and that of the degraded faces, in dB.

    Raises:
        ValueError: Training failed; its message stands above.
    """
    run = folder / "training"
    command = ["-m", "train", "fit", *words, "--data.faces", str(faces.resolve()), "--run.folder", str(run.resolve())]
    command += ["--run.max_minutes", str(minutes), "--run.overwrite", "true", "--run.wandb", "off"]
    command += ["--trainer.accelerator", "gpu" if card.is_gpu else "cpu", "--trainer.devices", "1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(card.device.index or 0)} if card.is_gpu else None
    with Children() as children:
        code = children.run(command, environment)
    if code not in (0, OUT_OF_TIME_CODE):
        raise ValueError(f"training ended with exit code {code}; its message stands above")
    write_atomically(folder / CURVES, _curves(run))
    return _summary(run)


def _curves(run: Path) -> bytes:
    """PSNR of restored and degraded validation faces over images seen."""
    restored, degraded = (columns_of(run / "validation.csv", [f"{which}/psnr"]) for which in ("validation", "degraded"))
    curves = [Curve(label, *one[1:]) for label, (one,) in (("restored", restored), ("degraded", degraded))]
    return curves_svg(curves, "images seen", "PSNR in dB")


def _summary(run: Path) -> dict[str, Any]:
    rows, validations = (_read(run / name) for name in ("train.csv", "validation.csv"))
    return {
        "images_seen": int(rows[-1]["images_seen"]),
        "images_per_second": median(float(row["speed/images_per_second"]) for row in rows),
        "loader_share": median(float(row["speed/loader_share"]) for row in rows),
        "psnr": [float(validations[i]["validation/psnr"]) for i in (0, -1)],
        "degraded_psnr": float(validations[-1]["degraded/psnr"]),
    }


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
