"""Makes a set of aligned faces out of photographs: python -m scripts.prepare_faces PHOTOS --output FACES."""

import sys
import time
from dataclasses import asdict
from pathlib import Path

from data.faces.files import Pictures, print_left_out
from photographs.options import Selection, Split
from system import command_line
from system.machine import num_cores
from system.paths import check_output_folder
from system.wording import counted

NOBODY_HELD_OUT = (
    "no face of val was good enough, or all photographs count as one person's; add photographs, or let the training "
    "hold out some of train (--data.num_validation_faces)"
)


def main(
    photos: Path,
    /,
    output: Path,
    selection: Selection,
    split: Split,
    pictures: Pictures,
    resolution: int = 512,
    num_workers: int | None = None,
    zip: bool = False,
) -> int:
    """Finds the faces of photographs, aligns them as FFHQ's are, rejects the bad ones and divides the others.

    Faces lie in train/ and val/ of the output; manifest.jsonl names each face, kept or rejected and why; summary.html
    shows them, summary.json counts them, contact_sheet.png shows kept ones. The same command continues, also with more
    photographs. Exit code 0: done, photographs that cannot be read are named and skipped; 1: no face was kept; 2: a
    wrong option, file or folder; 138: a process was lost.

    Args:
        photos: Photograph, folder (recursive), uncompressed zip or tar, or list of photographs.
        output: Folder for the faces, outside of the photographs.
        resolution: Width and height of the faces in pixels.
        num_workers: Processes at work; they change nothing but the time (default: one for each core).
        zip: Write the faces as train.zip and val.zip, uncompressed, instead of as files.
    """
    num_workers = num_cores() if num_workers is None else num_workers
    for option, value, low, high in (("resolution", resolution, 16, 4096), ("num_workers", num_workers, 1, 1024)):
        if not low <= value <= high:
            raise ValueError(f"--{option} must be from {low} to {high}, got {value}")
    check_output_folder(output, True, photos)
    files = pictures.open(photos)
    print_left_out(files)
    from photographs.preparation.manifest import Manifest, counts, summary_lines
    from photographs.preparation.page import write_summary
    from photographs.preparation.preparation import FacePreparer

    settings = {"photos": str(files.path), "resolution": resolution, **asdict(selection), **asdict(split), "zip": zip}
    settings |= asdict(pictures)
    manifest = Manifest(output, settings)
    preparer, begun = FacePreparer(resolution, selection, split, manifest, num_workers), time.monotonic()
    with command_line.progress_bar("preparing", len(files)) as show:
        lines = preparer.run(files, on_progress=show)
    speed = preparer.num_looked_at / (time.monotonic() - begun)
    kept = [face.kept_as for line in lines for face in line.kept()]
    if zip:
        manifest.written.pack(kept)
    page = write_summary(manifest.written, files, lines, settings)
    for line in lines:
        if line.problem:
            command_line.print_names(f"skipped: {line.source}: {line.problem}", file=sys.stderr)
    numbers = counts(lines)
    command_line.print_names(*summary_lines(numbers))
    if numbers["train"] and not numbers["val"] and split.val_share:
        print(f"warning: nobody is held out: {NOBODY_HELD_OUT}", file=sys.stderr)
    if preparer.num_looked_at:
        looked_at, workers = counted(preparer.num_looked_at, "photograph"), counted(num_workers, "process")
        print(f"{looked_at} looked at, {speed:.1f} a second by {workers}")
    command_line.print_names(f"{manifest.file} names every face, {page} shows kept and rejected ones")
    return 0 if kept else 1


if __name__ == "__main__":
    command_line.run(main)
