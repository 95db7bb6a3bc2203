"""A comparison of finished runs and exported models from their files to a report."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from inference.restorers import load_restorer
from studies.comparison import Comparison, Member, Variant, file_name, read_variants
from studies.measurement import MEASURING, Measurer
from studies.report.page import write_findings
from studies.report.tables import Findings, cost_sentences, gather, harm_sentences, quality_table, spread_caption
from studies.request import MeasurementSettings
from system import command_line
from system.live_progress import live_progress
from system.paths import check_output_folder

EVALUATIONS_FOLDER = "evaluations"


def compare_models(
    paths: list[str],
    faces: Path,
    settings: MeasurementSettings,
    reference: str | None,
    output: Path,
    overwrite: bool = False,
    without_photographs: bool = False,
) -> None:
    """Measures on clean aligned faces what is missing, writes the report and prints its tables.

    Each path is `[NAME=]PATH[,PATH…]`, a variant with one network for each seed; differences are taken from the
    reference, or the first. An earlier report is replaced by `overwrite`; what it measured is used again. ValueError or
    OSError where a network, the faces or the folder are wrong.
    """
    # Measurements of an interrupted comparison may be there.
    is_interrupted = (output / EVALUATIONS_FOLDER).is_dir() and not (output / "report.html").exists()
    check_output_folder(output, overwrite or is_interrupted, faces)
    models = read_variants(paths)
    check_resolutions(models)
    settings.preset_names()
    reference = reference or next(iter(models))
    if reference not in models:
        raise ValueError(f"--reference must be one of {', '.join(models)}, got {reference}")
    variants = measure(models, faces, settings, output / EVALUATIONS_FOLDER)
    comparison = Comparison(
        title=f"Comparison of {', '.join(models)}",
        question="",
        variants=variants,
        reference=reference,
        faces=faces,
        measurement=settings,
        missing={},
        commands=typed_command(),
    )
    findings = gather(comparison)
    print_results(findings, write_findings(findings, output, not without_photographs))


def check_resolutions(models: dict[str, list[Member]]) -> None:
    """Opens every file once, so that a wrong one is named before hours of measuring; ValueError where one of them
    restores nothing, or they restore at different resolutions."""
    found = {
        f"{name} ({model.name})": load_restorer(model.checkpoint).resolution
        for name in models
        for model in models[name]
    }
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} {resolution}" for name, resolution in found.items())
        raise ValueError(f"compared networks must have one resolution, got {listed} pixels; compare them apart")


def measure(
    models: dict[str, list[Member]], faces: Path, settings: MeasurementSettings, folder: Path
) -> tuple[Variant, ...]:
    """Measures what has not been measured yet, with the time left shown."""
    networks = [(name, model) for name, members in models.items() for model in members]
    folders = {(name, model.name): folder / file_name(name) / file_name(model.name) for name, model in networks}
    variants = []
    with live_progress(MEASURING) as on_step:
        measurer = Measurer(faces, settings, on_step)
        measurer.expect({folders[name, model.name]: model.checkpoint for name, model in networks})
        for name, members in models.items():
            measured = []
            for model in members:
                results = measurer.measure(model.checkpoint, folders[name, model.name])
                measured.append(replace(model, evaluations=results))
            variants.append(Variant(name, "", tuple(measured)))
    return tuple(variants)


def typed_command() -> str:
    """What was typed, folders of the machine shortened to their last names."""
    words = [_shortened(word) for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "scripts.compare_runs", *words])


def _shortened(word: str) -> str:
    """Absolute paths in one word of the command line, shortened."""
    name, equals, rest = word.rpartition("=")
    return name + equals + ",".join(Path(part).name if Path(part).is_absolute() else part for part in rest.split(","))


def print_results(findings: Findings, page: Path) -> None:
    """The tables, what makes faces worse or costs more, and the differences, as in the report."""
    for degradation in findings.results:
        header, rows = quality_table(findings, degradation)
        title = f"degradation {degradation}, {spread_caption(findings, degradation)}"
        cells = ([cell.replace(" ± ", "\n± ") for cell in row] for row in rows)
        command_line.print_table(title, header, cells, with_rules=True)
    differences = [difference.sentence() for difference in findings.differences]
    command_line.print_names(*harm_sentences(findings), *cost_sentences(findings), *differences, f"report: {page}")
