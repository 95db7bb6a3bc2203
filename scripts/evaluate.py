"""Measures a restorer on faces: python -m scripts.evaluate --checkpoint X --faces FOLDER --output FOLDER."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data.faces.files import open_faces
from evaluation.metrics.choice import ALL_METRICS, choose_metrics
from evaluation.protocol import Evaluation, Evaluator, FacePairs
from evaluation.reports.tables import summary_rows
from inference.folders import check_output_folder
from scripts.restorer_options import add_restorer_options, open_restorer
from studies.measurement import evaluate_restorer
from system import command_line


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
    pairs = open_pairs(arguments, restorer.resolution)
    metrics = choose_metrics(arguments.metrics, restorer.device, arguments.lpips_weights, arguments.inception_weights)
    columns = TextColumn("restoring and measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(pairs))
        evaluation = evaluate_restorer(
            restorer,
            arguments.checkpoint,
            Evaluator(pairs, metrics),
            arguments.output,
            lambda done: progress.update(task, completed=done),
        )
    print_results(evaluation, arguments.output)


def open_pairs(arguments: argparse.Namespace, resolution: int) -> FacePairs:
    """The pairs that the options name."""
    faces = open_faces(arguments.target_folder if arguments.faces is None else arguments.faces)
    degraded = arguments.degradation if arguments.faces is not None else open_faces(arguments.degraded_folder)
    return FacePairs(faces, resolution, degraded, arguments.seed, arguments.batch_size, arguments.max_faces)


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
    command_line.conclude(main)
