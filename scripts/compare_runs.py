"""Compares finished runs and exported models on the same faces: python -m scripts.compare_runs A B … --faces FOLDER."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.metrics.choice import ALL_METRICS
from inference.folders import check_output_folder
from inference.restorers import load_restorer
from studies.comparison import Comparison, Member, NamedModel, Variant, file_name, read_variants
from studies.measurement import MeasurementSettings, Measurer
from studies.report.page import write_findings
from studies.report.protocol_section import Findings, gather
from studies.report.tables import quality_table
from system import command_line
from system.atomic_file import printable

EVALUATIONS_FOLDER = "evaluations"


def main() -> None:
    """Measures, writes the report and prints its table."""
    arguments = parse_arguments()
    check_output(arguments.output, arguments.overwrite, arguments.faces)
    models = read_variants(arguments.models)
    check_resolutions(models)
    settings = MeasurementSettings(
        tuple(arguments.degradations), arguments.seed, tuple(arguments.metrics), arguments.max_faces
    )
    settings.preset_names()
    reference = arguments.reference or next(iter(models))
    if reference not in models:
        raise ValueError(f"--reference must be one of {', '.join(models)}, got {reference}")
    variants = measure(models, arguments.faces, settings, arguments.output / EVALUATIONS_FOLDER)
    comparison = Comparison(
        title=f"Comparison of {', '.join(models)}",
        question="",
        variants=variants,
        reference=reference,
        faces=arguments.faces,
        measurement=settings,
        missing={},
        commands=command(arguments),
    )
    findings = gather(comparison)
    page = write_findings(findings, arguments.output, not arguments.without_photographs)
    print_results(findings, page)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare_runs",
        description="Measures runs and models on the same degraded faces; writes report.html, report.md, report.csv, "
        "differences.csv and the resolved configurations. The same command continues an interrupted comparison.",
    )
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="[NAME=]PATH[,PATH…]",
        help="folder of a run (its last checkpoint), checkpoint, release file, public checkpoint, TorchScript or ONNX "
        "file; several paths with commas are one variant trained with several seeds",
    )
    add("--faces", type=Path, required=True, help="folder or uncompressed zip of clean aligned faces")
    add("--degradations", nargs="+", default=["released"], help="presets or YAML files (default: released)")
    add("--seed", type=int, default=0, help="seed of the degradation (default: 0)")
    add("--reference", help="variant from which differences are taken (default: the first)")
    add("--max-faces", type=int, help="only the first faces by name (default: all)")
    add(
        "--metrics",
        nargs="+",
        choices=ALL_METRICS,
        default=["psnr", "ssim", "lpips", "identity"],
        help="as for scripts.evaluate (default: psnr ssim lpips identity)",
    )
    add("--output", type=Path, required=True, help="folder for the report")
    add("--overwrite", action="store_true", help="replace an earlier report; what it measured is used again")
    add("--without-photographs", action="store_true", help="leave out degraded and target faces, to publish the report")
    return parser.parse_args()


def check_output(output: Path, overwrite: bool, faces: Path) -> None:
    """Refuses a folder with other files; measurements of an interrupted comparison may be there."""
    is_interrupted = (output / EVALUATIONS_FOLDER).is_dir() and not (output / "report.html").exists()
    check_output_folder(output, overwrite or is_interrupted, faces)


def check_resolutions(models: dict[str, list[NamedModel]]) -> None:
    """Opens every file once, so that a wrong one is named before hours of measuring.

    Raises:
        ValueError: One of them restores nothing, or they restore at different resolutions.
    """
    found = {
        f"{name} ({one.name})": load_restorer(one.checkpoint).resolution for name in models for one in models[name]
    }
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} {resolution}" for name, resolution in found.items())
        raise ValueError(f"compared networks must have one resolution, got {listed} pixels; compare them apart")


def measure(
    models: dict[str, list[NamedModel]], faces: Path, settings: MeasurementSettings, folder: Path
) -> tuple[Variant, ...]:
    """Measures what has not been measured yet, with the time left shown."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    variants = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=1)

        def show(degradation: str, done: int, number: int) -> None:
            before = (num_measured * len(settings.degradations) + degradations.index(degradation)) * number
            progress.update(task, completed=before + done, total=num_models * len(degradations) * number)

        measurer = Measurer(faces, settings, show)
        num_models, num_measured, degradations = sum(map(len, models.values())), 0, list(settings.preset_names())
        for name, members in models.items():
            measured = []
            for one in members:
                progress.update(task, description=escape(f"measuring {name}, {one.name}"))
                results = measurer.measure(one.checkpoint, folder / file_name(name) / file_name(one.name))
                measured.append(Member(one.name, one.checkpoint, results, one.runs))
                num_measured += 1
            variants.append(Variant(name, "", tuple(measured)))
    return tuple(variants)


def command(arguments: argparse.Namespace) -> str:
    """What was typed, folders of the machine shortened to their last names."""
    words = [_shortened(word) for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "scripts.compare_runs", *words])


def _shortened(word: str) -> str:
    """Absolute paths in one word of the command line, shortened."""
    name, equals, rest = word.rpartition("=")
    return name + equals + ",".join(Path(part).name if Path(part).is_absolute() else part for part in rest.split(","))


def print_results(findings: Findings, page: Path) -> None:
    """The tables and differences, as in the report."""
    console = Console()
    for degradation in findings.results:
        header, rows = quality_table(findings, degradation)
        table = Table(title=f"degradation {escape(degradation)}, mean ± standard deviation over seeds")
        for index, name in enumerate(header):
            table.add_column(escape(name), justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell).replace(" ± ", "\n± ") for cell in row), end_section=True)
        console.print(table)
    for difference in findings.differences:
        print(printable(difference.sentence()))
    print(printable(f"report: {page}"))


if __name__ == "__main__":
    command_line.conclude(main)
