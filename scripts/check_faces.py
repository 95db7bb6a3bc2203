"""Decodes every face of a set before a run does: python -m scripts.check_faces FOLDER."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.faces.check import CheckedFace, check_faces, same_pictures
from data.faces.files import fingerprint, open_faces
from system import command_line

MOST_LISTED = 20


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.check_faces",
        description="Decodes every face of a folder or zip and reports sizes, formats and modes, faces smaller than a "
        "resolution, pictures that are there twice, and files that cannot be used. Changes nothing. Exit code 0: all "
        "can be used; 1: some cannot, they are listed; 2: a wrong option, file or folder.",
    )
    parser.add_argument("faces", type=Path, help="folder (recursive) or uncompressed zip of aligned faces")
    parser.add_argument("--resolution", type=int, default=512, help="count smaller faces, in pixels (default: 512)")
    parser.add_argument("--threads", type=int, default=4, help="files decoded at once (default: 4)")
    parser.add_argument("--all", action="store_true", help=f"list every file, not the first {MOST_LISTED} of a kind")
    return parser.parse_args()


def main() -> None:
    """Checks and prints."""
    arguments = parse_arguments()
    if arguments.threads < 1 or arguments.resolution < 1:
        raise ValueError(
            f"--threads and --resolution must be at least 1, got {arguments.threads} and {arguments.resolution}"
        )
    faces = open_faces(arguments.faces)
    columns = TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        found = check_faces(faces, arguments.threads)
        checked = list(progress.track(found, total=len(faces)))
    most = len(faces) if arguments.all else MOST_LISTED
    print_summary(checked, arguments.resolution, most)
    print(f"fingerprint {fingerprint(faces)}")
    if any(one.problem for one in checked):
        sys.exit(1)


def print_summary(checked: list[CheckedFace], resolution: int, most: int) -> None:
    """Prints counts, and the first `most` names of each kind."""
    usable = [one for one in checked if one.problem is None]
    print(f"{len(checked)} files, {len(usable)} can be used")
    for title, values in (
        ("formats", Counter(one.format for one in usable)),
        ("modes", Counter(one.mode for one in usable)),
        ("sizes in pixels", Counter("x".join(map(str, one.size_pixels)) for one in usable)),
    ):
        common = ", ".join(f"{value} ({number})" for value, number in values.most_common(8))
        print(f"{title}: {common or 'none'}{f' and {len(values) - 8} more' if len(values) > 8 else ''}")
    small = [one.name for one in usable if min(one.size_pixels) < resolution]
    print_list(f"smaller than {resolution} pixels", small, most)
    print_list("there more than once", [" = ".join(names) for names in same_pictures(usable)], most)
    print_list("cannot be used", [f"{one.name}: {one.problem}" for one in checked if one.problem], most)


def print_list(title: str, lines: list[str], most: int) -> None:
    """Prints a count and the first lines."""
    print(f"{title}: {len(lines)}")
    for line in lines[:most]:
        print(f"    {line.encode('utf-8', 'backslashreplace').decode()}")
    if len(lines) > most:
        print(f"    and {len(lines) - most} more (--all lists them)")


if __name__ == "__main__":
    command_line.run(main)
