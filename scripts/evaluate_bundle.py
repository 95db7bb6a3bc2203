"""Compares what a card made of a bundle's golden faces with what it should have made of them."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from data.faces.files import Pictures
from system import command_line
from system.atomic_file import write_atomically
from system.live_progress import live_progress
from system.paths import check_there, refuse_existing
from system.wording import printable_line

if TYPE_CHECKING:
    from export.card.evaluation import CardEvaluation
    from export.card.fault_location import Suspect

NUM_SUSPECTS = 5


def main(
    bundle: Path,
    /,
    outputs: Path,
    pictures: Pictures,
    precision: Literal["float32", "fp16", "int8"] | None = None,
    json: Path | None = None,
    overwrite: bool = False,
    no_fault_location: bool = False,
) -> None:
    """Compares outputs of a card with the golden outputs and clean faces of a bundle, file by file and by name.

    Where they differ more than the precision explains, names the layer most likely at fault.

    Args:
        bundle: Folder written by python -m export.
        outputs: Folder of npz files with output_0 (vamp), or of images.
        precision: Of the card; null for the lowest in the bundle.
        json: Write all figures to this file.
        overwrite: Replace the file of --json.
        no_fault_location: Leave out the search for the layer, which takes minutes.
    """
    if json is not None:
        refuse_existing(json, overwrite)
    check_there(bundle, "bundle")
    check_there(outputs, "folder of outputs")
    from export.card.evaluation import evaluate_card, likely_faults, read_bundle, read_outputs

    contents = read_bundle(bundle)
    precision = precision or contents.precisions[-1]
    faces = read_outputs(outputs, contents.stems, contents.resolution, pictures)
    evaluation = evaluate_card(contents, precision, faces)
    console = Console()
    _print_evaluation(console, evaluation)
    suspects: list[Suspect] = []
    if evaluation.is_different and not no_fault_location:
        with live_progress("looking for the layer at fault") as on_step:
            suspects = likely_faults(contents, precision, faces, on_step)
        _print_suspects(console, suspects)
    if json is not None:
        write_atomically(json, dumps(evaluation.as_json(suspects), indent=2) + "\n")


def _print_evaluation(console: Console, evaluation: "CardEvaluation") -> None:
    header = ("face", "to float", f"to {evaluation.precision} expected", "to clean", "float to clean")
    rows = []
    for row in (*evaluation.faces, evaluation.mean):
        cells = (row.to_float, row.to_expected, row.to_clean, row.float_to_clean)
        rows.append([printable_line(row.name), *("–" if cell is None else f"{cell:.2f}" for cell in cells)])
    command_line.print_table("PSNR of what came back, in dB", header, rows)
    console.print(evaluation.verdict, markup=False, highlight=False, soft_wrap=True)


def _print_suspects(console: Console, suspects: "list[Suspect]") -> None:
    from export.card.fault_location import is_sure

    rows = [(suspect.name, suspect.cause, f"{suspect.share:.0%}") for suspect in suspects[:NUM_SUSPECTS]]
    command_line.print_table("", ("layer", "cause", "explains of the error"), rows)
    first = suspects[0]
    sureness = "most likely" if is_sure(suspects) else "not sure, the first guess is"
    console.print(
        f"Layer at fault: {sureness} {first.name} ({first.cause}).", markup=False, highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    command_line.run(main)
