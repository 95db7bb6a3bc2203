"""`python -m export`: a checkpoint to a bundle of artefacts that were compared with it."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data.faces.files import check_faces_exist
from export.formats.options import ExportSettings, ParityFaces
from system import command_line
from system.live_progress import live_progress
from system.paths import check_there

if TYPE_CHECKING:  # what needs PyTorch is imported where it is used: help and wrong options answer at once
    from export.bundle.contents import ExportReport


def main(
    checkpoint: Path, output: Path, compare_on: ParityFaces, settings: ExportSettings, overwrite: bool = False
) -> None:
    """Writes a checkpoint's EMA generator as a bundle for deployment.

    A bundle holds safetensors, TorchScript, ONNX, and what the VACC compiler needs for fp16 and int8. Each artefact is
    run and compared with the network; nothing is left behind if one differs.

    Args:
        checkpoint: Release file, Lightning checkpoint or public GPEN checkpoint.
        output: Folder of the bundle, made if it is not there.
        overwrite: Replace the files of a bundle that is there already.
    """
    check_there(checkpoint, "checkpoint")
    check_faces_exist(compare_on.faces, settings.calibration)
    if not settings.precision and compare_on.faces is None:
        Console(stderr=True).print("int8 is left out: it needs faces to calibrate and to measure on (--faces FOLDER)")
    with live_progress("starting") as on_step:
        from export.bundle.assembly import export_bundle

        on_step("reading the checkpoint")
        report = export_bundle(checkpoint, output, compare_on, settings, overwrite, on_step)
    _print_summary(report, output)


def _print_summary(report: "ExportReport", output: Path) -> None:
    from export.bundle.page import NOT_RUN, ZOO_HEADER, difference_rows, zoo_rows

    console = Console()
    images = report.images
    which = "no faces given" if images.degradation is None else f"preset {images.degradation}, seed {images.seed}"
    command_line.print_table(
        f"compared with the network on {images.number} {images.kind} ({which}), in units of [-1, 1]",
        ("artefact", "largest difference", "mean difference"),
        [row[1:] for row in difference_rows(report)],
    )
    command_line.print_table(
        f"measured on {report.num_evaluation} {images.kind} ({report.evaluated_on})",
        (*ZOO_HEADER, "PSNR to float"),
        [
            (*row, "–" if result.form == "float32" else f"{result.psnr_to_float:.2f}")
            for row, result in zip(zoo_rows(report), report.results, strict=True)
        ],
    )
    console.print(f"{report.parameters:,} parameters", highlight=False)
    if report.int8_flops_share is not None:
        console.print(f"{report.int8_flops_share:.2%} of the FLOPs in int8", highlight=False)
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if report.precisions != ("float32",):
        console.print(NOT_RUN, markup=False, highlight=False)
    command_line.print_names(f"The bundle is in {output}; its README says how to run it.")


if __name__ == "__main__":
    command_line.run(main)
