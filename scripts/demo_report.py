"""The page that `make demo` ends with: runs/demo/report.html."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.protocol import Evaluation
from evaluation.reports.pictures import Picture, worst_and_best
from evaluation.reports.report import Report
from evaluation.reports.run_curves import run_curves
from evaluation.reports.tables import summary_rows
from export.bundle.contents import ExportReport

GO_ON = """make demo FACES=folder                                    # the same with your photographs
python -m train fit --help                                # every option, described
python -m train fit --config configs/prior_512.yaml --data.faces FACES --run.folder runs/prior_512
python -m train fit --config configs/restoration_512.yaml --data.faces FACES \\
    --model.init_args.start runs/prior_512/checkpoints/images_….ckpt --run.folder runs/restoration_512
python -m scripts.restore_faces --input FOLDER --output FOLDER"""


def write_report(folder: Path, note: str, evaluation: Evaluation, exported: ExportReport, seconds: float) -> Path:
    """Writes report.html.

    Args:
        folder: Of the demo, with the runs `prior` and `restoration` in it.
        note: Which faces were used.
        evaluation: Of the restorer on held-out faces.
        exported: Of the restorer.
        seconds: The demo took.

    Returns:
        Path of the page.
    """
    report = Report("GPEN trainer: the demo")
    report.add_paragraph(f"{note}. All of it took {seconds / 60:.1f} minutes.")
    _add_samples(report, folder / "prior")
    _add_restoration(report, folder / "restoration", evaluation)
    _add_curves(report, folder)
    _add_export(report, exported)
    report.add_heading("How to go on")
    report.add_commands(GO_ON)
    return report.write(folder / "report.html")


def _add_samples(report: Report, run: Path) -> None:
    report.add_heading("Stage 1: what the prior draws")
    report.add_paragraph("The same latents as training goes on; the averaged generator draws.")
    for path in sorted((run / "samples").glob("*.png"))[-4:]:
        report.add_picture(_read(path)[: _rows(path)], f"after {_images(path):,} images")


def _add_restoration(report: Report, run: Path, evaluation: Evaluation) -> None:
    report.add_heading("Stage 2: degraded | restored | target")
    last = sorted((run / "pictures").glob("*.png"))[-1]
    report.add_picture(_read(last), f"Held-out faces after {_images(last):,} images")
    report.add_heading("Figures")
    header, rows = summary_rows(evaluation)
    report.add_table(header, rows, f"{len(evaluation.rows)} held-out faces; mean and 95 % interval over faces")
    report.add_picture(worst_and_best(evaluation), "Worst and best faces by PSNR")
    report.add_paragraph("The protocol, as a figure without it means nothing:")
    report.add_commands(json.dumps(asdict(evaluation.protocol), indent=1, default=str))


def _add_curves(report: Report, folder: Path) -> None:
    report.add_heading("Curves")
    losses = ("discriminator/adversarial", "generator/adversarial", "generator/l1")
    for run, title in (("prior", "Stage 1"), ("restoration", "Stage 2")):
        report.add_curves(run_curves(folder / run / "train.csv", losses), "images seen", "loss", f"{title}: losses")
    psnr = run_curves(folder / "restoration" / "validation.csv", ("validation/psnr", "degraded/psnr"))
    report.add_curves(psnr, "images seen", "PSNR [dB]", "Stage 2: PSNR on held-out faces")


def _add_export(report: Report, exported: ExportReport) -> None:
    report.add_heading("Export")
    report.add_paragraph(
        f"{exported.parameters:,} parameters, {exported.flops / 1e9:.2f} GFLOPs at {exported.resolution} pixels; "
        f"largest and mean difference from the trained network on {exported.images.number} {exported.images.kind}."
    )
    values = asdict(exported)
    rows = [
        (name, f"{values[f'{key}_max_difference']:.1e}", f"{values[f'{key}_mean_difference']:.1e}")
        for name, key in (("safetensors", "safetensors"), ("TorchScript", "torchscript"), ("ONNX", "onnx"))
    ]
    report.add_table(("artefact", "largest", "mean"), rows, "in units of [-1, 1]")


def _read(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB"))


def _rows(path: Path) -> int:
    """Height of the first two of four rows of samples, in pixels."""
    return Image.open(path).height // 2


def _images(path: Path) -> int:
    return int(path.stem.rsplit("_", 1)[1])
