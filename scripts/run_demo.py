"""The whole path at 64 pixels on a CPU: prior, embedding, fine-tuning, evaluation, export; `make demo` calls it."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from data.faces.files import FaceFiles, hold_out, open_faces
from evaluation.metrics.choice import choose_metrics
from evaluation.protocol import Evaluation, Evaluator, FacePairs
from evaluation.reports.tables import summary_rows
from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport
from export.formats.parity import ParityFaces
from inference.drawing import render_faces
from models import load_generator
from scripts.demo_report import write_report
from system import command_line
from system.atomic_file import write_atomically
from train.run.checkpoints import latest_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SHIPPED_PRIOR = ROOT / "weights" / "prior_64.safetensors"
DEGRADATION, SEED = "small", 0
NUM_RENDERED, NUM_VALIDATION = 2_000, 64


@dataclass(frozen=True)
class DemoOptions:
    """What `make demo` may be told."""

    faces: Path | None
    output: Path
    prior_images: int
    restoration_images: int


def parse_arguments() -> DemoOptions:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.run_demo",
        description="Trains a prior for some minutes, embeds the shipped prior into GPEN, fine-tunes it against "
        "synthetic degradation, measures it on faces it never saw and exports it. The same command continues an "
        "interrupted demo.",
    )
    add = parser.add_argument
    add("--faces", type=Path, help="aligned photographs (default: faces that the shipped prior draws)")
    add("--output", type=Path, default=Path("runs/demo"), help="folder (default: runs/demo)")
    add("--prior-images", type=int, default=6_400, help="length of stage 1 (default: 6400)")
    add("--restoration-images", type=int, default=9_600, help="length of stage 2 (default: 9600)")
    values = parser.parse_args()
    return DemoOptions(values.faces, values.output, values.prior_images, values.restoration_images)


def main() -> None:
    """Runs the demo."""
    options = parse_arguments()
    start = time.perf_counter()
    faces, note = choose_faces(options)
    say(note)
    say("Stage 1: a face prior learns to draw (a few minutes show blobs that become heads; hours show faces)")
    train("prior_64", options.output / "prior", faces, options.prior_images, {"fid_num_images": "0"})
    say("Stage 2: the shipped prior, trained longer, becomes the decoder of GPEN and learns to restore")
    restoration = options.output / "restoration"
    start_from = {"start": str(SHIPPED_PRIOR), "degradation": DEGRADATION}
    train("restoration_64", restoration, faces, options.restoration_images, start_from)
    checkpoint = latest_checkpoint(restoration)
    assert checkpoint is not None  # a finished run has written one
    say("Evaluation on held-out faces")
    _, held_out = hold_out(open_faces(faces), NUM_VALIDATION)
    evaluation = measure(checkpoint, held_out)
    say("Export, compared with the trained network")
    parity = ParityFaces(faces, DEGRADATION, SEED)
    exported = export_bundle(checkpoint, options.output / "export", parity, overwrite=True)
    seconds = time.perf_counter() - start
    figures = metrics(evaluation, exported, seconds)
    write_atomically(options.output / "metrics.json", json.dumps(figures, indent=2) + "\n")
    report = write_report(options.output, note, evaluation, exported, seconds)
    print_summary(evaluation, exported, seconds, report)


def choose_faces(options: DemoOptions) -> tuple[Path, str]:
    """The photographs given, else faces drawn by the shipped prior, and what to say about them."""
    if options.faces is not None:
        number = len(open_faces(options.faces))
        return options.faces, f"Faces: {number:,} photographs of {options.faces}; the last ones by name are held out"
    folder = options.output / "faces"
    render_faces(SHIPPED_PRIOR, folder, NUM_RENDERED, SEED)
    return folder, (
        "Faces: no folder was given (make demo FACES=folder), and torchvision's download of LFW was withdrawn by its "
        f"publishers, so {NUM_RENDERED:,} faces were drawn by the shipped prior {SHIPPED_PRIOR.name}. They are no "
        "photographs: the figures below show that everything works, not how well real faces are restored"
    )


def train(config: str, folder: Path, faces: Path, total_images: int, model: dict[str, str]) -> None:
    """Runs `python -m train fit` as a user would, or continues it."""
    quarter = str(max(total_images // 4, 16))
    options = {
        "--config": f"configs/{config}.yaml",
        "--data.faces": str(faces.resolve()),
        "--data.num_workers": "1",
        "--data.num_validation_faces": str(NUM_VALIDATION),
        "--run.folder": str(folder.resolve()),
        "--run.total_images": str(total_images),
        "--run.log_every_images": str(min(800, max(total_images // 4, 16))),
        "--run.validate_every_images": quarter,
        "--run.checkpoint_every_images": quarter,
        "--run.wandb": "off",
        "--trainer.precision": "bf16-mixed",
        **{f"--model.init_args.{name}": value for name, value in model.items()},
    }
    command = ["-m", "train", "fit", *(word for option in options.items() for word in option)]
    print("$ " + " ".join(["python", *command]), flush=True)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise ValueError(f"training ended with exit code {done.returncode}; the same command continues the demo")


def measure(checkpoint: Path, faces: FaceFiles) -> Evaluation:
    """PSNR and SSIM of the averaged generator on degraded held-out faces."""
    generator = load_generator(checkpoint)
    pairs = FacePairs(faces, generator.architecture.resolution, DEGRADATION, SEED)
    return Evaluator(pairs, choose_metrics(("psnr", "ssim"))).evaluate(generator)


def metrics(evaluation: Evaluation, exported: ExportReport, seconds: float) -> dict[str, object]:
    """The contents of metrics.json."""
    tables = {"degraded": evaluation.degraded, "restored": evaluation.restored}
    return {
        **{name: {key: table[key].mean for key in ("psnr", "ssim")} for name, table in tables.items()},
        "export": {
            "onnx_max_difference": exported.onnx_max_difference,
            "torchscript_max_difference": exported.torchscript_max_difference,
        },
        "seconds": seconds,
    }


def print_summary(evaluation: Evaluation, exported: ExportReport, seconds: float, report: Path) -> None:
    """The table at the end."""
    header, rows = summary_rows(evaluation)
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    print()
    for row in [header, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"\nexport: largest difference TorchScript {exported.torchscript_max_difference:.1e}, ONNX "
          f"{exported.onnx_max_difference:.1e} (units of [-1, 1])")  # fmt: skip
    print(f"{seconds / 60:.1f} minutes; report: {report}")


def say(text: str) -> None:
    """A heading between the steps."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    command_line.conclude(main)
