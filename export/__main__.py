"""`python -m export`: a checkpoint to a bundle of artefacts that were compared with it."""

import argparse
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport, ExportSettings, Precision
from export.bundle.page import NOT_RUN, ZOO_HEADER, zoo_rows
from export.formats.artefacts import COMPILER_OPSET, DEFAULT_OPSET, OPSET_RANGE
from export.formats.parity import ParityFaces
from export.int8.quantization import QuantizationSettings
from export.static.network import Upsampling
from models.quantization.clipping import Calibration
from system import command_line


def main() -> None:
    """Reads the arguments, exports and prints what came out."""
    arguments = _parser().parse_args()
    console = Console(stderr=True)
    compare_on = ParityFaces(arguments.faces, arguments.degradation, arguments.seed, arguments.images)
    with console.status("reading the checkpoint") as status:
        report = export_bundle(
            arguments.checkpoint,
            arguments.output,
            compare_on,
            _settings(arguments, console),
            arguments.overwrite,
            on_step=lambda step: status.update(step),
        )
    _print_summary(report, arguments.output)


def _settings(arguments: argparse.Namespace, console: Console) -> ExportSettings:
    """What was asked for; without --precision, all that can be measured."""
    precisions: tuple[Precision, ...] = tuple(arguments.precision or ())
    if not precisions:
        precisions = ("float32", "fp16") if arguments.faces is None else ("float32", "fp16", "int8")
        if arguments.faces is None:
            console.print("int8 is left out: it needs faces to calibrate and to measure on (--faces FOLDER)")
    return ExportSettings(
        precisions=precisions,
        opset=arguments.opset,
        upsampling=arguments.upsampling,
        calibration=arguments.calibration,
        num_calibration=arguments.calibration_faces,
        num_evaluation=arguments.evaluation_faces,
        quantization=QuantizationSettings(
            calibration=arguments.calibration_mode,
            largest_drop_db=arguments.largest_drop,
            largest_float_flops=arguments.largest_float_flops,
            rounding_iterations=arguments.rounding_iterations,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Writes a checkpoint's EMA generator as a bundle for deployment: safetensors, TorchScript, ONNX, "
        "and what the VACC compiler needs for fp16 and int8. Each artefact is run and compared with the network; "
        "nothing is left behind if one differs.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="release file, Lightning checkpoint or public GPEN checkpoint")
    add("--output", type=Path, required=True, help="folder of the bundle, made if it is not there")
    add(
        "--faces",
        type=Path,
        help="folder or zip of clean faces: the last ones by name are degraded to compare and measure on, the first "
        "ones to calibrate int8; without it smooth synthetic images serve, and there is no int8",
    )
    add("--degradation", default="released", help="preset or YAML file that degrades them (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the degradation (default: %(default)s)")
    add("--images", type=int, default=8, help="golden faces, to compare on and to travel along (default: %(default)s)")
    add(
        "--precision",
        nargs="+",
        choices=get_args(Precision),
        help="what to prepare and measure (default: all; without --faces no int8)",
    )
    lowest, highest = OPSET_RANGE
    opset_help = (
        f"of the ONNX file for onnxruntime, {lowest} to {highest} (default: %(default)s); another has {COMPILER_OPSET}"
    )
    add("--opset", type=int, default=DEFAULT_OPSET, help=opset_help)
    add(
        "--upsampling",
        choices=get_args(Upsampling),
        default="transposed",
        help="form of the network: fewest FLOPs, or only convolutions that compilers count (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace the files of a bundle that is there already")
    _add_integer_options(parser)
    return parser


def _add_integer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("int8")
    add = group.add_argument
    defaults = QuantizationSettings()
    add("--calibration", type=Path, help="folder of degraded faces of the model's size to take the ranges from")
    add("--calibration-faces", type=int, default=100, help="faces to calibrate on (default: %(default)s)")
    add("--evaluation-faces", type=int, default=100, help="other faces to measure on (default: %(default)s)")
    add(
        "--calibration-mode",
        choices=get_args(Calibration),
        default=defaults.calibration,
        help="where ranges of activations end (default: %(default)s)",
    )
    add(
        "--largest-drop",
        type=float,
        default=defaults.largest_drop_db,
        help="dB of PSNR that int8 may cost; convolutions stay in float until it is met (default: %(default)s)",
    )
    add(
        "--largest-float-flops",
        type=float,
        default=defaults.largest_float_flops,
        help="share of the FLOPs that may stay in float for that; 0 for none (default: %(default)s)",
    )
    add(
        "--rounding-iterations",
        type=int,
        default=defaults.rounding_iterations,
        help="steps of learned rounding for each convolution (default: %(default)s, round to nearest)",
    )


def _print_summary(report: ExportReport, output: Path) -> None:
    console = Console()
    images = report.images
    which = "no faces given" if images.degradation is None else f"preset {images.degradation}, seed {images.seed}"
    differences = _table("artefact", "largest difference", "mean difference")
    names = {
        "safetensors": "safetensors",
        "torchscript": "torchscript",
        "onnx": f"onnx, opset {report.opset}",
        "compiler_onnx": f"onnx, opset {COMPILER_OPSET}",
    }
    for key, name in names.items():
        largest, mean = (getattr(report, f"{key}_{kind}_difference") for kind in ("max", "mean"))
        differences.add_row(name, f"{largest:.1e}", f"{mean:.1e}")
    console.print(f"Compared with the network on {images.number} {images.kind} ({which}), in units of [-1, 1]:")
    console.print(differences)
    quality = _table(*ZOO_HEADER, "PSNR to float")
    for row, result in zip(zoo_rows(report), report.results, strict=True):
        quality.add_row(*row, "–" if result.form == "float32" else f"{result.psnr_to_float:.2f}")
    console.print(f"Measured on {report.num_evaluation} {images.kind}:")
    console.print(quality)
    console.print(f"{report.parameters:,} parameters", highlight=False)
    if report.int8_flops_share is not None:
        console.print(f"{report.int8_flops_share:.2%} of the FLOPs in int8", highlight=False)
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if report.precisions != ("float32",):
        console.print(NOT_RUN, markup=False, highlight=False)
    console.print(f"The bundle is in {output}; its README says how to run it.", markup=False, highlight=False)


def _table(first: str, *others: str) -> Table:
    """A table with text in its first column and numbers in the others."""
    table = Table(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


if __name__ == "__main__":
    command_line.run(main)
