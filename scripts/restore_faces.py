"""Restores aligned faces: python -m scripts.restore_faces --checkpoint X --input FOLDER --output FOLDER."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.faces.files import open_faces
from inference.folders import check_output_folder, restore_folder
from scripts.restorer_options import add_restorer_options, open_restorer
from system import command_line


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.restore_faces",
        description="Restores aligned faces and writes them as PNG of the model's size, sub folders and names kept. "
        "Faces are resized to the model's resolution, after cropping the central square of those that are not square. "
        "Exit code 0: all were restored; 1: some could not be, they are listed at the end and the others are written; "
        "2: a wrong option, file or folder.",
    )
    parser.add_argument(
        "--input", type=Path, required=True, help="folder (recursive) or uncompressed zip of aligned faces"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the restored faces, outside of --input")
    add_restorer_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="write into a folder that holds files, replacing equal names"
    )
    return parser.parse_args()


def main() -> None:
    """Restores and reports what failed."""
    arguments = parse_arguments()
    check_output_folder(arguments.output, arguments.overwrite, arguments.input)
    faces = open_faces(arguments.input)
    restorer = open_restorer(arguments)
    columns = TextColumn("restoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(faces))
        failed = restore_folder(
            restorer,
            faces,
            restorer.resolution,
            arguments.output,
            arguments.batch_size,
            on_progress=lambda done: progress.update(task, completed=done),
        )
    print(f"{len(faces) - len(failed)} faces restored into {arguments.output}")
    for reason in failed.values():
        print(f"not restored: {reason}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main)
