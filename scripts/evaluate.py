"""Measures a restorer on faces: python -m scripts.evaluate --checkpoint X --faces FOLDER --output FOLDER."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data.degradation.presets import load_preset
from data.faces.files import open_faces
from evaluation.metrics.choice import ALL_METRICS, choose_metrics
from evaluation.pairs import PairBatch, degraded_pairs, stored_pairs
from evaluation.protocol import Evaluation, Protocol, evaluate, faces_protocol
from evaluation.reports.pictures import worst_and_best, write_png
from evaluation.tables import metrics_json, per_image_csv, summary_rows
from inference.folders import check_output_folder
from scripts.restorer_options import add_restorer_options, open_restorer
from studies.measurement import file_digest
from system import command_line
from system.atomic_file import write_atomically


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluate",
        description="Measures a restorer on faces that are degraded by a preset, or on stored pairs. Writes "
        "metrics.json (means, 95 % intervals, the whole protocol), per_image.csv and best_worst.png.",
    )
    add_restorer_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier evaluation in --output")
    faces = parser.add_argument_group("faces: either clean ones and a degradation, or stored pairs")
    faces.add_argument("--faces", type=Path, help="folder (recursive) or uncompressed zip of clean aligned faces")
    faces.add_argument("--degradation", default="released", help="preset name or YAML file (default: released)")
    faces.add_argument("--seed", type=int, default=0, help="seed of the degradation (default: 0)")
    faces.add_argument("--degraded-folder", type=Path, help="stored degraded faces, with --target-folder")
    faces.add_argument("--target-folder", type=Path, help="their targets; names must be equal but for the suffix")
    faces.add_argument("--max-faces", type=int, help="only the first faces by name (default: all)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=ALL_METRICS,
        default=["psnr", "ssim", "lpips", "identity"],
        help="PSNR is always computed; a metric whose weights or package cannot be had is listed as unavailable "
        "(default: psnr ssim lpips identity)",
    )
    parser.add_argument(
        "--lpips-weights", type=Path, help="torchvision's AlexNet file (default: GPEN_WEIGHTS, cache, web)"
    )
    parser.add_argument(
        "--inception-weights", type=Path, help="torch-fidelity's file (default: GPEN_WEIGHTS, cache, web)"
    )
    arguments = parser.parse_args()
    paired = arguments.degraded_folder is not None, arguments.target_folder is not None
    if (arguments.faces is not None) == any(paired) or any(paired) != all(paired):
        parser.error("give either --faces, or both --degraded-folder and --target-folder")
    return arguments


def main() -> None:
    """Evaluates and writes the results."""
    arguments = parse_arguments()
    for inputs in (arguments.faces, arguments.degraded_folder, arguments.target_folder):
        check_output_folder(arguments.output, arguments.overwrite, inputs)
    restorer = open_restorer(arguments)
    pairs, protocol, num_faces = open_pairs(arguments, restorer.resolution)
    metrics = choose_metrics(arguments.metrics, restorer.device, arguments.lpips_weights, arguments.inception_weights)
    protocol = replace(protocol, model=restorer.description, model_sha256=file_digest(arguments.checkpoint))
    columns = TextColumn("restoring and measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=num_faces)
        evaluation = evaluate(
            restorer, pairs, metrics, protocol, on_progress=lambda done: progress.update(task, completed=done)
        )
    write_results(arguments.output, evaluation)
    print_results(evaluation, arguments.output)


def open_pairs(arguments: argparse.Namespace, resolution: int) -> tuple[Iterable[PairBatch], Protocol, int]:
    """The pairs, what the protocol says about them, and how many there are."""
    size, most = arguments.batch_size, arguments.max_faces
    folder = arguments.target_folder if arguments.faces is None else arguments.faces
    faces = open_faces(folder)
    num_faces = len(faces) if most is None else min(len(faces), most)
    if arguments.faces is None:
        degraded = open_faces(arguments.degraded_folder)
        protocol = faces_protocol(faces, str(folder), resolution, f"stored images in {arguments.degraded_folder}")
        return stored_pairs(degraded, faces, resolution, size, most), protocol, num_faces
    ranges, seed = load_preset(arguments.degradation), arguments.seed
    protocol = faces_protocol(faces, str(folder), resolution, arguments.degradation, ranges, seed)
    return degraded_pairs(faces, resolution, ranges, seed, size, most), protocol, num_faces


def write_results(output: Path, evaluation: Evaluation) -> None:
    """Writes metrics.json, per_image.csv and best_worst.png."""
    write_atomically(output / "per_image.csv", per_image_csv(evaluation))
    write_png(output / "best_worst.png", worst_and_best(evaluation))
    write_atomically(output / "metrics.json", metrics_json(evaluation))


def print_results(evaluation: Evaluation, output: Path) -> None:
    """Prints the means and what is needed to read them."""
    console = Console()
    header, rows = summary_rows(evaluation)
    protocol = evaluation.protocol
    degradation = protocol.degradation if protocol.seed is None else f"{protocol.degradation}, seed {protocol.seed}"
    table = Table(title=f"{protocol.num_faces} faces at {protocol.resolution} pixels, degradation {degradation}")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(cell.replace(" [", "\n[") for cell in row), end_section=True)
    console.print(table)
    for name, reason in evaluation.unavailable.items():
        console.print(f"{name} unavailable: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"mean [95 % interval]; results in {output}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    command_line.run(main)
