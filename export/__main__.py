"""`python -m export`: a checkpoint to a bundle of artefacts that were compared with it."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

import command_line
from export.artefacts import DEFAULT_OPSET, OPSET_RANGE
from export.bundle import ExportReport, export_bundle
from export.parity import ParityFaces


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
            arguments.opset,
            arguments.overwrite,
            on_step=lambda step: status.update(step),
        )
    _print_summary(report, arguments.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Writes a checkpoint's EMA generator as safetensors, TorchScript and ONNX, runs each of them and "
        "compares it with the network; nothing is left behind if one differs.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="release file, Lightning checkpoint or public GPEN checkpoint")
    add("--output", type=Path, required=True, help="folder of the bundle, made if it is not there")
    add(
        "--faces",
        type=Path,
        help="folder or zip of clean faces to compare on; without it smooth synthetic images serve",
    )
    add(
        "--degradation",
        default="released",
        help="preset or YAML file that makes inputs of the faces (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the degradation (default: %(default)s)")
    add("--images", type=int, default=8, help="images to compare on, the first by name (default: %(default)s)")
    lowest, highest = OPSET_RANGE
    opset_help = f"ONNX opset, {lowest} to {highest}; compilers mostly take 11 to 17 (default: %(default)s)"
    add("--opset", type=int, default=DEFAULT_OPSET, help=opset_help)
    add("--overwrite", action="store_true", help="replace the files of a bundle that is there already")
    return parser


def _print_summary(report: ExportReport, output: Path) -> None:
    console = Console()
    images = report.images
    which = "no faces given" if images.degradation is None else f"preset {images.degradation}, seed {images.seed}"
    differences = _table("artefact", "largest difference", "mean difference")
    for name in ("safetensors", "torchscript", "onnx"):
        largest, mean = (getattr(report, f"{name}_{kind}_difference") for kind in ("max", "mean"))
        differences.add_row(f"onnx, opset {report.opset}" if name == "onnx" else name, f"{largest:.1e}", f"{mean:.1e}")
    console.print(f"Compared with the network on {images.number} {images.kind} ({which}), in units of [-1, 1]:")
    console.print(differences)
    cost = _table("layers", "number", "GFLOPs", "share", "parameters")
    for kind in report.cost_by_kind:
        share = f"{kind.flops / report.flops:.1%}"
        cost.add_row(kind.kind, str(kind.num_layers), f"{kind.flops / 1e9:.4f}", share, f"{kind.parameters:,}")
    cost.add_section()
    number = sum(kind.num_layers for kind in report.cost_by_kind)
    cost.add_row("all", str(number), f"{report.flops / 1e9:.4f}", "100.0%", f"{report.parameters:,}")
    console.print("Cost of one image (a multiplication and an addition are two FLOPs):")
    console.print(cost)
    console.print(f"The bundle is in {output}; its README says how to run it.", markup=False, highlight=False)


def _table(first: str, *others: str) -> Table:
    """A table with text in its first column and numbers in the others."""
    table = Table(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


if __name__ == "__main__":
    command_line.run(main)
