"""The page that `make demo` ends with: runs/demo/report.html."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.ranges import model_to_uint8
from evaluation.protocol import Evaluation, FacePictures
from evaluation.reports.charts import run_curves
from evaluation.reports.pictures import GRID_GAP, WORST_AND_BEST, comparison_rows, worst_and_best
from evaluation.reports.report import Report
from evaluation.reports.tables import effect_sentences, harm_sentence, summary_rows
from export.bundle.contents import ExportReport
from export.bundle.page import difference_rows
from inference.drawing import SHIPPED_PRIOR, sample
from models import load_prior
from models.files.run_folder import images_of
from system.wording import counted
from train.stages.validation import NUM_COLUMNS, STATES

NUM_LARGE, LARGE_PIXELS = 4, 256
NUM_MOMENTS, NUM_DRAWN = 4, 3
GO_ON = """make demo FACES=folder                                    # the same with your photographs
python -m train fit --help                                # every option, described
python -m train fit --config configs/prior_512.yaml --data.faces FACES --run.folder runs/prior_512
python -m train fit --config configs/restoration_512.yaml --data.faces FACES \\
    --model.init_args.start runs/prior_512/checkpoints/images_….ckpt --run.folder runs/restoration_512
python -m scripts.restore_faces --input FOLDER --output FOLDER"""
MORE = (
    "So short a training does that. With more minutes: python -m scripts.run_demo --minutes 25 --output runs/longer. "
    "The shipped restorer, trained for hours, is what scripts.restore_faces uses."
)


def write_report(folder: Path, note: str, evaluation: Evaluation, exported: ExportReport, seconds: float) -> Path:
    """Writes report.html into the folder of the demo, in which the runs `prior` and `restoration` lie, and returns its
    path; `note` tells which faces were used."""
    report = Report("GPEN trainer: the demo")
    _add_restoration(report, evaluation)
    report.add_paragraph(f"{note}. All of it took {seconds / 60:.1f} minutes.")
    _add_samples(report, folder / "prior")
    _add_curves(report, folder)
    _add_export(report, exported)
    report.add_heading("How to go on")
    report.add_commands(GO_ON)
    return report.write(folder / "report.html")


def effects(evaluation: Evaluation) -> list[str]:
    """What restoring did to the faces, in words, and what to do where it made them worse."""
    return [*effect_sentences(evaluation), *([MORE] if harm_sentence(evaluation) else [])]


def _add_restoration(report: Report, evaluation: Evaluation) -> None:
    """The effect in words, the faces that gained most or lost least, large, then the figures."""
    for sentence in effects(evaluation):
        report.add_paragraph(sentence)
    gained = sorted(evaluation.best, key=_gain, reverse=True)[:NUM_LARGE]
    columns = [torch.stack([getattr(face, state) for face in gained]) for state in STATES]
    captions = [f"{f.row.degraded['psnr']:.1f} → {f.row.restored['psnr']:.1f} dB   {f.row.name}" for f in gained]
    faces = counted(len(evaluation.rows), "held-out face")
    difference = evaluation.difference["psnr"].mean
    report.add_picture(
        comparison_rows(columns, STATES, captions, LARGE_PIXELS),
        f"The {len(gained)} of {faces} that {'gained most' if _gain(gained[0]) > 0 else 'lost least'}, every pixel "
        f"enlarged; from left to right {', '.join(STATES)}. The mean over all is {difference:+.2f} dB PSNR.",
    )
    report.add_heading("Figures")
    header, rows = summary_rows(evaluation)
    report.add_table(header, rows, f"{faces}; mean and 95 % interval over faces")
    few = replace(evaluation, worst=evaluation.worst[:NUM_LARGE], best=evaluation.best[:NUM_LARGE])
    report.add_picture(worst_and_best(few), WORST_AND_BEST)
    protocol = json.dumps(asdict(evaluation.protocol), indent=1, default=str)
    report.add_folded("The protocol, as a figure without it means nothing", protocol, "metrics.json")


def _gain(face: FacePictures) -> float:
    """How many dB of PSNR restoring brought to a face."""
    return face.row.restored["psnr"] - face.row.degraded["psnr"]


def _add_samples(report: Report, run: Path) -> None:
    """A few faces of the prior on one line as training went on, beside those of the shipped prior."""
    report.add_heading("Stage 1: what the prior draws")
    paths = sorted((run / "samples").glob("*.png"))[-NUM_MOMENTS:]
    shipped = model_to_uint8(sample(load_prior(SHIPPED_PRIOR), 0, range(NUM_DRAWN)))
    moments = [_first_cells(path) for path in paths] + [torch.cat(list(shipped), dim=-1)]
    headings = [*(f"{images_of(path):,} images" for path in paths), "the shipped prior"]
    report.add_picture(
        comparison_rows([moment[None] for moment in moments], headings),
        "The averaged generator of stage 1 draws the same latents as training goes on; at the right the prior that "
        "stage 2 starts from draws them.",
    )


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
    rows = [(name, *differences) for name, _, *differences in difference_rows(exported)]
    report.add_table(("artefact", "largest", "mean"), rows, "in units of [-1, 1]")


def _first_cells(path: Path) -> Tensor:
    """The first faces of a picture of samples, side by side, uint8 [3, R, faces * R]."""
    grid = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    cell = (grid.shape[-1] - GRID_GAP) // NUM_COLUMNS
    cells = [grid[:, GRID_GAP:cell, index * cell + GRID_GAP : (index + 1) * cell] for index in range(NUM_DRAWN)]
    return torch.cat(cells, dim=-1)
