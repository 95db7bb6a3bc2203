"""Compares what a card made of a bundle's golden faces with what it should have made of them."""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.bundle.contents import Precision
from export.card.evaluation import CardEvaluation, evaluate_card, likely_faults, read_bundle
from export.card.fault_location import Suspect, is_sure
from export.card.outputs import read_outputs
from system import command_line
from system.atomic_file import write_atomically

NUM_SUSPECTS = 5


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluate_bundle",
        description="Compares outputs of a card with the golden outputs and clean faces of a bundle, file by file and "
        "by name; where they differ more than the precision explains, names the layer most likely at fault.",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="folder written by python -m export")
    add("--outputs", type=Path, required=True, help="folder of npz files with output_0 (vamp), or of images")
    add("--precision", choices=("float32", "fp16", "int8"), help="of the card (default: the lowest in the bundle)")
    add("--json", type=Path, help="write all figures to this file")
    add("--overwrite", action="store_true", help="replace the file of --json")
    add("--no-fault-location", action="store_true", help="leave out the search for the layer, which takes minutes")
    return parser.parse_args()


def main() -> None:
    """Compares and prints."""
    arguments = parse_arguments()
    if arguments.json is not None:
        command_line.refuse_existing(arguments.json, arguments.overwrite)
    bundle = read_bundle(arguments.bundle)
    precision: Precision = arguments.precision or bundle.precisions[-1]
    outputs = read_outputs(arguments.outputs, bundle.stems, bundle.resolution)
    evaluation = evaluate_card(bundle, precision, outputs)
    console = Console()
    _print_evaluation(console, evaluation)
    suspects: list[Suspect] = []
    if evaluation.is_different and not arguments.no_fault_location:
        with Console(stderr=True).status("looking for the layer at fault") as status:
            suspects = likely_faults(bundle, precision, outputs, on_step=lambda step: status.update(step))
        _print_suspects(console, suspects)
    if arguments.json is not None:
        write_atomically(arguments.json, json.dumps(evaluation.as_json(suspects), indent=2) + "\n")


def _print_evaluation(console: Console, evaluation: CardEvaluation) -> None:
    table = Table()
    table.add_column("face", overflow="fold")
    for heading in (
        "to float [dB]",
        f"to {evaluation.precision} expected [dB]",
        "to clean [dB]",
        "float to clean [dB]",
    ):
        table.add_column(heading, justify="right")
    for row in (*evaluation.faces, evaluation.mean):
        cells = (row.to_float, row.to_expected, row.to_clean, row.float_to_clean)
        table.add_row(row.name, *("–" if cell is None else f"{cell:.2f}" for cell in cells))
    console.print(table)
    console.print(evaluation.verdict, markup=False, highlight=False, soft_wrap=True)


def _print_suspects(console: Console, suspects: list[Suspect]) -> None:
    table = Table("layer", "cause")
    table.add_column("explains of the error", justify="right")
    for suspect in suspects[:NUM_SUSPECTS]:
        table.add_row(suspect.name, suspect.cause, f"{suspect.share:.0%}")
    console.print(table)
    first = suspects[0]
    sureness = "most likely" if is_sure(suspects) else "not sure, the first guess is"
    console.print(
        f"Layer at fault: {sureness} {first.name} ({first.cause}).", markup=False, highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    command_line.run(main)
