"""`python -m export`: a checkpoint to a bundle of artefacts that were compared with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from system import command_line
from system.live_progress import live_progress

if TYPE_CHECKING:  # what needs PyTorch is imported where it is used: help and wrong options answer at once
    from export.bundle.contents import ExportReport, ExportSettings


@dataclass(frozen=True)
class Faces:
    """Faces to compare and measure on."""

    faces: Path | None = None
    """Folder or zip of clean faces: the last ones by name are degraded to compare and measure on, the first ones to
    calibrate int8; without it smooth synthetic images serve, and there is no int8."""
    degradation: str = "released"
    """Preset or YAML file that degrades them."""
    seed: int = 0
    """Seed of the degradation."""
    images: int = 8
    """Golden faces, to compare on and to travel along."""


@dataclass(frozen=True)
class Integers:
    """Options of int8."""

    calibration: Path | None = None
    """Folder of degraded faces of the model's size to take the ranges from."""
    calibration_faces: int = 100
    """Faces to calibrate on."""
    evaluation_faces: int = 100
    """Other faces to measure on."""
    calibration_mode: Literal["max", "mse", "percentile", "kl"] = "mse"
    """Where ranges of activations end."""
    largest_drop: float = 0.1
    """dB of PSNR that int8 may cost; convolutions stay in float until it is met."""
    largest_float_flops: float = 0.05
    """Share of the FLOPs that may stay in float for that; 0 for none."""
    rounding_iterations: int = 0
    """Steps of learned rounding for each convolution; 0 rounds to nearest."""


@dataclass(frozen=True)
class Forms:
    """Forms of the network."""

    precision: tuple[Literal["float32", "fp16", "int8"], ...] = ()
    """What to prepare and measure; all if none is named, without --faces no int8."""
    opset: int = 20
    """Opset of the ONNX file for onnxruntime, 11 to 20; another one has 11."""
    upsampling: Literal["transposed", "pixel_shuffle"] = "transposed"
    """Fewest FLOPs, or only convolutions that compilers count."""


def main(
    checkpoint: Path, output: Path, images: Faces, forms: Forms, integers: Integers, overwrite: bool = False
) -> None:
    """Writes a checkpoint's EMA generator as a bundle for deployment.

    A bundle holds safetensors, TorchScript, ONNX, and what the VACC compiler needs for fp16 and int8. Each artefact is
    run and compared with the network; nothing is left behind if one differs.

    Args:
        checkpoint: Release file, Lightning checkpoint or public GPEN checkpoint.
        output: Folder of the bundle, made if it is not there.
        overwrite: Replace the files of a bundle that is there already.
    """
    console = Console(stderr=True)
    with live_progress("starting") as on_step:
        from export.bundle.assembly import export_bundle
        from export.formats.artefacts import ParityFaces

        compare_on = ParityFaces(images.faces, images.degradation, images.seed, images.images)
        settings = _settings(forms, integers, images.faces is not None, console)
        on_step("reading the checkpoint")
        report = export_bundle(checkpoint, output, compare_on, settings, overwrite, on_step)
    _print_summary(report, output)


def _settings(forms: Forms, integers: Integers, has_faces: bool, console: Console) -> "ExportSettings":
    """What was asked for; without --precision, all that can be measured."""
    from export.bundle.contents import ExportSettings
    from export.int8.layer_selection import Budget
    from export.int8.quantization import QuantizationSettings

    precisions = forms.precision
    if not precisions:
        precisions = ("float32", "fp16", "int8") if has_faces else ("float32", "fp16")
        if not has_faces:
            console.print("int8 is left out: it needs faces to calibrate and to measure on (--faces FOLDER)")
    return ExportSettings(
        precisions=precisions,
        opset=forms.opset,
        upsampling=forms.upsampling,
        calibration=integers.calibration,
        num_calibration=integers.calibration_faces,
        num_evaluation=integers.evaluation_faces,
        quantization=QuantizationSettings(
            calibration=integers.calibration_mode,
            budget=Budget(integers.largest_drop, largest_float_flops=integers.largest_float_flops),
            rounding_iterations=integers.rounding_iterations,
        ),
    )


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
